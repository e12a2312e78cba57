//! `kill`, `delete`, `pause` and `resume`.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::ExitCode;

use berth_spec::oci::runtime::Status;
use berth_sys::process::send_signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Global;
use super::flags::{Flag, Given};
use super::home;
use super::state::{Directory, Saved};
use crate::error::{Context, Error, Result};
use crate::hooks;

/// SIGKILL.
const KILL_ALL: i32 = 9;

const KILL: &[Flag] = &[(&["all", "a"], false)];
const DELETE: &[Flag] = &[(&["force", "f"], false)];

/// Names of signals by number, without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal by number or name.
fn signal(text: &str) -> Result<i32> {
    // None is whether it could be sent.
    if let Ok(number @ 0..=64) = text.parse() {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |base: i32, rest: &str| {
        let offset: i32 = if rest.is_empty() {
            0
        } else {
            rest.parse().ok()?
        };
        Some(base + offset).filter(|n| (34..=64).contains(n))
    };
    let found = if let Some(rest) = name.strip_prefix("RTMIN") {
        realtime(34, rest)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        realtime(64, rest)
    } else {
        let at = SIGNALS.iter().position(|s| *s == name);
        at.and_then(|n| i32::try_from(n + 1).ok())
    };
    found.ok_or_else(|| Error::invalid(format!("unknown signal {text:?}")))
}

pub(super) fn kill(global: &Global, arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let given = Given::parse(arguments, KILL, false)?;
    let directory = Directory::of(&global.root, given.id()?);
    let signal = signal(given.words.get(1).map_or("SIGTERM", String::as_str))?;
    let saved = directory.load()?;
    // Nobody's end ends the others where they have no PID namespace of their own.
    let shared = signal == KILL_ALL && !saved.own_pids();
    if given.on("all") || shared {
        let Some(named) = rustix::process::Signal::from_named_raw(signal) else {
            return match signal {
                0 => Ok(ExitCode::SUCCESS),
                _ => Err(Error::invalid("--all takes named signals")),
            };
        };
        let cgroup = saved.open_cgroup()?;
        if saved.pidfd().is_none() && cgroup.pids().is_ok_and(|pids| pids.is_empty()) && shared {
            return Err(Error::gone("container not running"));
        }
        cgroup
            .signal_all(named)
            .map_err(|e| Error::internal(e.to_string()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let pidfd = saved
        .pidfd()
        .ok_or_else(|| Error::gone("container not running"))?;
    send_signal(pidfd.as_fd(), signal).context(|| format!("signal {signal}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn delete(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, DELETE, false)?;
    let directory = Directory::of(&global.root, given.id()?);
    let force = given.on("force");
    if !directory.exists() && force {
        return Ok(ExitCode::SUCCESS);
    }
    let _lock = directory.lock()?;
    let saved = match directory.load() {
        Ok(saved) => saved,
        // A create that was cut short.
        Err(_) if force => {
            directory.remove()?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error),
    };
    let status = saved.status(&directory);
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        let status = format!("{status:?}").to_lowercase();
        return Err(Error::new(
            crate::ErrorKind::Conflict,
            format!(
                "cannot delete container {} that is not stopped: {status}",
                saved.id
            ),
        ));
    }
    destroy(&directory, &saved)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends what runs of a container and removes what is left of it.
pub(super) fn destroy(directory: &Directory, saved: &Saved) -> Result<()> {
    if let Some(pidfd) = saved.pidfd() {
        if let Ok(cgroup) = saved.open_cgroup() {
            // A frozen process does not end.
            let _ = cgroup.thaw();
        }
        // It may have ended this moment.
        let _ = send_signal(pidfd.as_fd(), 9);
        let mut polls = [PollFd::new(&pidfd, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        if let Ok(0) = poll(&mut polls, Some(&patience)) {
            return Err(Error::internal("container init still running"));
        }
    }
    if let Ok(cgroup) = saved.open_cgroup() {
        home::leave(&cgroup, saved.unit.as_deref())?;
    } else if let Some(unit) = &saved.unit {
        // Its cgroup went with its last process; a unit that failed stays.
        crate::systemd::stop(unit)?;
    }
    directory.remove()?;
    if let Some(all) = &saved.spec.hooks {
        let state = hooks::state(&saved.spec, &saved.id, Status::Stopped, None, &saved.bundle);
        if let Err(error) = hooks::run("poststop", &all.poststop, &state) {
            super::note("warning", &error.to_string());
        }
    }
    Ok(())
}

/// Freezes a container's processes, or lets them go on.
pub(super) fn freeze(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
    frozen: bool,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, &[], false)?;
    let directory = Directory::of(&global.root, given.id()?);
    let _lock = directory.lock()?;
    let saved = directory.load()?;
    let refuse = |text: &str| Err(Error::new(crate::ErrorKind::Conflict, text));
    let cgroup = saved.open_cgroup();
    let result = match (saved.status(&directory), frozen) {
        (Status::Running | Status::Created, true) => cgroup?.freeze(),
        (Status::Paused, false) => cgroup?.thaw(),
        (_, true) => return refuse("container not running"),
        (_, false) => return refuse("container not paused"),
    };
    result.map_err(|e| Error::internal(e.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let good = [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGRTMIN+1", 35),
            ("RTMAX-1", 63),
            ("SYS", 31),
        ];
        for (text, number) in good {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        assert_eq!(signal("0").unwrap(), 0);
        for text in ["-1", "65", "SIGNO", "", "RTMIN+40"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
