//! `create`, `start` and `run`.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use berth_spec::oci::runtime::{CONFIG_MAX, Spec, Status};
use berth_sys::{mount, socket};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Global;
use super::flags::{Flag, Given};
use super::foreground::Foreground;
use super::home::Home;
use super::kill::destroy;
use super::state::{self, Directory, Saved};
use super::terminal::{Host, Shown};
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::init::{self, Gate, Started, Stdio};
use crate::launcher::World;
use crate::process::start_time;
use crate::seccomp_filter;

const CREATE: &[Flag] = &[
    (&["bundle", "b"], true),
    (&["console-socket"], true),
    (&["pid-file"], true),
    (&["preserve-fds"], true),
    (&["no-pivot"], false),
    (&["no-new-keyring"], false),
    (&["detach", "d"], false),
    (&["keep"], false),
    (&["no-subreaper"], false),
];

pub(super) fn create(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, CREATE, false)?;
    make(global, &given, true)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(global: &Global, arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let given = Given::parse(arguments, CREATE, false)?;
    let foreground = if given.on("detach") {
        None
    } else {
        Some(Foreground::new()?)
    };
    let (directory, mut started, host) = make(global, &given, foreground.is_none())?;
    let mut ran = true;
    let result = show(host, &mut started).and_then(|shown| {
        start_in(&directory)?;
        if let Err(error) = started.hear_out() {
            // From the start on, words are the container's own: runc's have nothing before them.
            eprintln!("{error}");
            super::log("error", &error.to_string());
            ran = false;
            return Ok(1);
        }
        match &foreground {
            Some(foreground) => foreground.wait(started.pid, started.pidfd.as_fd(), shown),
            None => Ok(0),
        }
    });
    if result.is_err() || !ran || (foreground.is_some() && !given.on("keep")) {
        destroy(&directory, &directory.load()?)?;
    }
    Ok(ExitCode::from(result? as u8))
}

pub(super) fn start(
    global: &Global,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    let given = Given::parse(arguments, &[], false)?;
    start_in(&Directory::of(&global.root, given.id()?))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a bundle's document.
pub(super) fn read_spec(path: &Path) -> Result<Spec> {
    let what = || path.display().to_string();
    let file = std::fs::File::open(path).invalid(what)?;
    let mut text = Vec::new();
    file.take(CONFIG_MAX + 1)
        .read_to_end(&mut text)
        .context(what)?;
    if text.len() as u64 > CONFIG_MAX {
        return Err(Error::invalid(format!("{}: too large", what())));
    }
    serde_json::from_slice(&text).invalid(what)
}

fn make(
    global: &Global,
    given: &Given,
    detached: bool,
) -> Result<(Directory, Started, Option<Host>)> {
    let id = given.id()?;
    let bundle = std::path::absolute(given.value("bundle").unwrap_or("."))
        .invalid(|| "bundle".to_owned())?;
    let spec = read_spec(&bundle.join("config.json"))?;
    let (console, host) = console(given, &spec, detached)?;
    let directory = Directory::create(&global.root, id)?;
    let made = make_in(global, &directory, id, &bundle, spec, given);
    let made = made.and_then(|started| hand_over(given, console, started));
    match made {
        Ok(started) => {
            super::debug("init: closing the pipe to signal completion");
            Ok((directory, started, host))
        }
        Err(error) => {
            match directory.load() {
                // It came up, and what followed failed.
                Ok(saved) => destroy(&directory, &saved)?,
                Err(_) => directory.remove()?,
            }
            Err(error)
        }
    }
}

/// Who gets the terminal, if there is to be one: the socket, or our own terminal for who waits for the
/// process in its place.
pub(super) fn console(
    given: &Given,
    spec: &Spec,
    detached: bool,
) -> Result<(Option<OwnedFd>, Option<Host>)> {
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    match (terminal && detached, given.value("console-socket")) {
        (true, Some(path)) => {
            let socket = socket::connect(Path::new(path));
            Ok((
                Some(socket.invalid(|| format!("console socket {path}"))?),
                None,
            ))
        }
        (true, None) => Err(Error::invalid(
            "cannot allocate tty if runc will detach without setting console socket",
        )),
        (false, Some(_)) => Err(Error::invalid(
            "cannot use console socket if runc will not detach or allocate tty",
        )),
        (false, None) if terminal => Ok((None, Some(Host::open()?))),
        (false, None) => Ok((None, None)),
    }
}

/// Shows the process's terminal in ours.
pub(super) fn show(host: Option<Host>, started: &mut Started) -> Result<Option<Shown>> {
    match (host, started.terminal.take()) {
        (Some(host), Some(master)) => host.show(master).map(Some),
        _ => Ok(None),
    }
}

/// Sends the terminal where it was asked for, and writes the PID file.
pub(super) fn hand_over(
    given: &Given,
    console: Option<OwnedFd>,
    mut started: Started,
) -> Result<Started> {
    if let Some(console) = console {
        let terminal = started.terminal.take();
        let terminal = terminal.ok_or_else(|| Error::internal("there is no terminal"))?;
        socket::send(console, b"/dev/ptmx", &[terminal.as_fd()])
            .context(|| "console socket".to_owned())?;
    }
    write_pid_file(given, started.pid.as_raw_pid())?;
    for warning in &started.warnings {
        super::note("warning", warning);
    }
    Ok(started)
}

pub(super) fn write_pid_file(given: &Given, pid: i32) -> Result<()> {
    if let Some(path) = given.value("pid-file") {
        let what = || format!("pid file {path}");
        let path = PathBuf::from(path);
        let mut aside = path.clone().into_os_string();
        aside.push(".new");
        std::fs::write(&aside, pid.to_string()).context(what)?;
        std::fs::rename(&aside, &path).context(what)?;
    }
    Ok(())
}

fn make_in(
    global: &Global,
    directory: &Directory,
    id: &str,
    bundle: &Path,
    spec: Spec,
    given: &Given,
) -> Result<Started> {
    let filter = match spec.linux.as_ref().and_then(|l| l.seccomp.as_ref()) {
        Some(profile) => Some(seccomp_filter::compile(profile)?),
        None => None,
    };
    let root = state::rootfs(&spec, bundle);
    let tree = mount::clone_path(CWD, &root, true)
        .map_err(|e| Error::invalid(format!("rootfs ({}): {e}", root.display())))?;
    // Passing through mount namespaces loses the working directory.
    let here = openat(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context(|| "working directory".to_owned())?;
    let world = World::new(state::cgroups()?)?;
    let home = Home::make(global, &world.cgroups, &spec, id)?;
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    super::debug("nsexec container setup");
    let started = init::start(
        &world,
        init::Start {
            id,
            spec: &spec,
            bundle,
            filter: filter.as_ref(),
            root: tree,
            given: init::Given::default(),
            sources: Vec::new(),
            cgroup: &home.cgroup,
            stdio: if terminal {
                Stdio::Terminal
            } else {
                Stdio::Files(None)
            },
            gate: Gate::Fifo(directory.make_fifo()?),
            bound_to_parent: false,
            init: false,
            preserve_fds: given.number("preserve-fds")?.unwrap_or(0),
        },
    );
    rustix::process::fchdir(here).context(|| "working directory".to_owned())?;
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            home.undo();
            return Err(error);
        }
    };
    super::debug("child process in init()");
    let pid = started.pid.as_raw_pid();
    directory.save(&Saved {
        id: id.to_owned(),
        pid,
        start_time: start_time(pid).context(|| format!("process {pid}"))?,
        bundle: bundle.to_owned(),
        cgroup: home.cgroup.path().to_string(),
        unit: home.unit.clone(),
        created: Timestamp::now(),
        spec,
    })?;
    Ok(started)
}

/// Lets the first process go on, which waits for somebody to read from its FIFO.
fn start_in(directory: &Directory) -> Result<()> {
    let _lock = directory.lock()?;
    let saved = directory.load()?;
    match saved.status(directory) {
        Status::Created => {}
        Status::Stopped => return Err(Error::gone("cannot start a container that has stopped")),
        _ => {
            return Err(Error::new(
                crate::ErrorKind::Conflict,
                "cannot start an already running container",
            ));
        }
    }
    let what = || "starting".to_owned();
    let gone = || Error::gone("cannot start a container that has stopped");
    let pidfd = saved.pidfd().ok_or_else(gone)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = openat(CWD, directory.fifo(), flags, Mode::empty()).context(what)?;
    let mut polls = [
        PollFd::new(&fifo, PollFlags::IN),
        PollFd::new(&pidfd, PollFlags::IN),
    ];
    while matches!(poll(&mut polls, None), Err(rustix::io::Errno::INTR)) {}
    let mut word = [0; 1];
    if rustix::io::read(&fifo, &mut word) != Ok(1) {
        return Err(gone());
    }
    std::fs::remove_file(directory.fifo()).context(what)?;
    if let Some(all) = &saved.spec.hooks {
        let pid = Some(saved.pid);
        let state = hooks::state(&saved.spec, &saved.id, Status::Running, pid, &saved.bundle);
        if let Err(error) = hooks::run("poststart", &all.poststart, &state) {
            // runtime.md, "Lifecycle": the container is stopped. It may have ended by itself.
            let _ = berth_sys::process::send_signal(pidfd.as_fd(), 9);
            return Err(error);
        }
    }
    Ok(())
}
