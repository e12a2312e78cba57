//! `exec`.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use berth_spec::oci::runtime::{NamespaceKind, Process, Spec, Status};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::Pid;

use super::Global;
use super::create::{console, hand_over, show};
use super::flags::{Flag, Given};
use super::foreground::Foreground;
use super::state::{self, Directory, Saved};
use crate::cgroup::parse_sub_cgroups;
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::init::{self, Stdio};
use crate::launcher::World;
use crate::seccomp_filter;

const EXEC: &[Flag] = &[
    (&["console-socket"], true),
    (&["cwd"], true),
    (&["env", "e"], true),
    (&["tty", "t"], false),
    (&["user", "u"], true),
    (&["additional-gids", "g"], true),
    (&["process", "p"], true),
    (&["detach", "d"], false),
    (&["pid-file"], true),
    (&["no-new-privs"], false),
    (&["cap", "c"], true),
    (&["preserve-fds"], true),
    (&["ignore-paused"], false),
    (&["cgroup"], true),
];

pub(super) fn exec(global: &Global, arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let given = Given::parse(arguments, EXEC, true)?;
    let directory = Directory::of(&global.root, given.id()?);
    let saved = directory.load()?;
    match saved.status(&directory) {
        Status::Stopped => {
            return Err(Error::gone("cannot exec in a stopped container"));
        }
        Status::Paused if !given.on("ignore-paused") => {
            let text = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(Error::new(crate::ErrorKind::Conflict, text));
        }
        _ => {}
    }
    let process = process(&given, &saved)?;
    let terminal = Spec {
        process: Some(process.clone()),
        ..Spec::default()
    };
    let (console, host) = console(&given, &terminal, given.on("detach"))?;
    let foreground = if given.on("detach") {
        None
    } else {
        Some(Foreground::new()?)
    };
    let mut started = hand_over(&given, console, start(&saved, &process, &given)?)?;
    let shown = show(host, &mut started)?;
    let code = match foreground {
        Some(foreground) => foreground.wait(started.pid, started.pidfd.as_fd(), shown)?,
        None => 0,
    };
    Ok(ExitCode::from(code as u8))
}

/// The container's own process with what the command line changes, or the one of a file.
fn process(given: &Given, saved: &Saved) -> Result<Process> {
    if let Some(path) = given.value("process") {
        let what = || path.to_owned();
        let text = std::fs::read(path).invalid(what)?;
        return serde_json::from_slice(&text).invalid(what);
    }
    let mut process = saved.spec.process.clone().unwrap_or_default();
    process.args = given.words[1..].to_vec();
    if process.args.is_empty() {
        return Err(Error::invalid("exec args cannot be empty"));
    }
    process.terminal = given.on("tty");
    process.console_size = None;
    if let Some(cwd) = given.value("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    process.env.extend(given.all("env").map(str::to_owned));
    process.no_new_privileges |= given.on("no-new-privs");
    if let Some(user) = given.value("user") {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        let number = |text: &str| {
            let parsed: std::result::Result<u32, _> = text.parse();
            parsed.map_err(|_| Error::invalid(format!("bad user {user:?}")))
        };
        process.user.uid = number(uid)?;
        if !gid.is_empty() {
            process.user.gid = number(gid)?;
        }
    }
    for gid in given.all("additional-gids") {
        let gid = gid
            .parse()
            .map_err(|_| Error::invalid(format!("bad group {gid:?}")))?;
        process.user.additional_gids.push(gid);
    }
    let capabilities = process.capabilities.get_or_insert_default();
    for name in given.all("cap") {
        for set in [
            &mut capabilities.bounding,
            &mut capabilities.effective,
            &mut capabilities.permitted,
        ] {
            set.push(name.to_owned());
        }
        // It can be raised only where something is inheritable at all.
        if !capabilities.inheritable.is_empty() {
            capabilities.ambient.push(name.to_owned());
        }
    }
    Ok(process)
}

fn start(saved: &Saved, process: &Process, given: &Given) -> Result<init::Started> {
    let linux = saved.spec.linux.clone().unwrap_or_default();
    let filter = match &linux.seccomp {
        Some(profile) => Some(seccomp_filter::compile(profile)?),
        None => None,
    };
    let has = |kind: NamespaceKind| linux.namespaces.iter().any(|n| n.kind == kind);
    let here = openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context(|| "working directory".to_owned())?;
    let world = World::new(state::cgroups()?)?;
    rustix::process::fchdir(here).context(|| "working directory".to_owned())?;
    let pids = openat(
        &world.procfs,
        Path::new(&format!("{}/ns/pid", saved.pid)),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let pids = pids.context(|| "the container's PID namespace".to_owned())?;
    // Opened last and checked: what was opened before is then of the same process.
    let pidfd = saved
        .pidfd()
        .ok_or_else(|| Error::gone("cannot exec in a stopped container"))?;
    let pid = Pid::from_raw(saved.pid).ok_or_else(|| Error::internal("no process"))?;
    let below =
        parse_sub_cgroups(given.all("cgroup")).map_err(|e| Error::invalid(e.to_string()))?;
    super::debug("nsexec container setup");
    let mut started = init::exec::start(
        &world,
        init::exec::Exec {
            process,
            filter: filter.as_ref(),
            container: init::exec::Target {
                pid,
                pidfd: pidfd.as_fd(),
            },
            pid_namespace: has(NamespaceKind::Pid).then_some(pids.as_fd()),
            own_user: has(NamespaceKind::User),
            own_time: has(NamespaceKind::Time),
            cgroup: &saved.open_cgroup_in(&world.cgroups)?,
            below: &below,
            stdio: if process.terminal {
                Stdio::Terminal
            } else {
                Stdio::Files(None)
            },
            bound_to_parent: false,
            preserve_fds: given.number("preserve-fds")?.unwrap_or(0),
            state: &|| {
                let pid = Some(saved.pid);
                hooks::state(&saved.spec, &saved.id, Status::Running, pid, &saved.bundle)
            },
        },
    )?;
    super::debug("child process in init()");
    super::debug("setns_init: about to exec");
    init::exec::progress(&mut started)?;
    Ok(started)
}
