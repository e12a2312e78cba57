//! The start of a container, from the request to a running program.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use berth_spec::oci::runtime::{Hooks, NamespaceKind, State, Status as OciStatus};
use berth_sys::root::RootFd;
use berth_sys::socket;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};

use super::foreign;
use super::log::Log;
use super::protocol::{Spawn, Status};
use super::session::{Session, Wanted};
use crate::cgroup::{Cgroup, CgroupPath};
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::init::{self, Gate, Given, Started};
use crate::launcher::World;
use crate::process::start_time;
use crate::task::{ExitStatus, TaskSpec};

/// What belongs to one container while it runs.
#[derive(Debug)]
pub(super) struct Container {
    pub task: TaskSpec,
    pub dir: RootFd,
    /// Held until everything of the container is gone: a later start in the same directory waits for
    /// that.
    pub lock: Option<OwnedFd>,
    pub listener: OwnedFd,
    pub cgroup: Cgroup,
    pub started: Started,
    /// Keeps the container's mounts until its end has been told: taking them down takes a while.
    pub mounts: Option<OwnedFd>,
    /// Its PID namespace, if it has one of its own.
    pub pids: Option<OwnedFd>,
    pub filter: Option<crate::seccomp_filter::Filter>,
    pub status: Status,
}

impl Container {
    /// Whether it has a namespace of that kind of its own, or shares that of another.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        has(&self.task, kind)
    }

    /// What others are told of it.
    pub fn state(&self) -> State {
        let (task, pid) = (&self.task, self.started.pid.as_raw_pid());
        crate::hooks::state(
            &task.spec,
            &task.id,
            OciStatus::Running,
            Some(pid),
            &task.dir,
        )
    }

    /// Its first process.
    pub fn target(&self) -> init::exec::Target<'_> {
        init::exec::Target {
            pid: self.started.pid,
            pidfd: self.started.pidfd.as_fd(),
        }
    }
}

/// Descriptors of a request, in their order.
struct Received {
    root: OwnedFd,
    given: Given,
    sources: Vec<(usize, OwnedFd)>,
    attach: Vec<OwnedFd>,
}

fn sort(request: &Spawn, fds: Vec<OwnedFd>) -> Result<Received> {
    let missing = || Error::invalid("a descriptor is missing");
    let mut fds = fds.into_iter();
    let root = fds.next().ok_or_else(missing)?;
    let mut one_if = |sent: bool| match sent {
        true => fds.next().map(Some).ok_or_else(missing),
        false => Ok(None),
    };
    let given = Given {
        network: one_if(request.netns)?,
        user: one_if(request.userns)?,
    };
    let mut sources = Vec::new();
    for index in &request.sources {
        sources.push((*index, fds.next().ok_or_else(missing)?));
    }
    let attach: Vec<OwnedFd> = fds.collect();
    if attach.len() != request.attach.len() {
        return Err(missing());
    }
    Ok(Received {
        root,
        given,
        sources,
        attach,
    })
}

/// Starts what was asked for. On an error nothing is left of it.
pub(super) fn start(
    world: &World,
    request: Spawn,
    fds: Vec<OwnedFd>,
) -> Result<(Container, Session)> {
    let received = sort(&request, fds)?;
    let task = &request.task;
    let (dir, lock, listener) = directory(&task.dir)?;
    let result = run(world, request, received, dir, lock, listener);
    if let Err((_, dir)) = &result {
        remove_socket(dir);
    }
    result.map_err(|(error, _)| error)
}

pub(super) fn remove_socket(dir: &RootFd) {
    // It may be gone with its directory.
    let _ = rustix::fs::unlinkat(dir, "shim.sock", rustix::fs::AtFlags::empty());
}

fn directory(path: &Path) -> Result<(RootFd, OwnedFd, OwnedFd)> {
    let what = || format!("container directory {}", path.display());
    if !path.is_absolute() {
        return Err(Error::invalid(format!("{}: not absolute", what())));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context(what)?;
    let dir = RootFd::open(path).context(what)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = openat(&dir, "lock", flags, Mode::RUSR | Mode::WUSR).context(what)?;
    flock(&lock, FlockOperation::LockExclusive).context(what)?;
    ExitStatus::clear(&dir).context(what)?;
    let listener = socket::listen_at(&dir, OsStr::new("shim.sock"), 0o600).context(what)?;
    Ok((dir, lock, listener))
}

type Failed = (Error, RootFd);

fn run(
    world: &World,
    request: Spawn,
    received: Received,
    dir: RootFd,
    lock: OwnedFd,
    listener: OwnedFd,
) -> std::result::Result<(Container, Session), Failed> {
    let cgroup = match make_cgroup(world, &request.task) {
        Ok(cgroup) => cgroup,
        Err(error) => return Err((error, dir)),
    };
    let begun = begin(world, &request, received, &cgroup);
    let (started, session, status) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            // What is told is why it failed; the cgroup is empty.
            let _ = cgroup.remove();
            return Err((error, dir));
        }
    };
    let namespace = |name: &str| {
        let path = format!("{}/ns/{name}", status.pid);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&world.procfs, path, flags, Mode::empty()).ok()
    };
    let separate = has(&request.task, NamespaceKind::Pid);
    let container = Container {
        dir,
        lock: Some(lock),
        listener,
        cgroup,
        mounts: namespace("mnt"),
        pids: separate.then(|| namespace("pid")).flatten(),
        filter: request.filter,
        task: request.task,
        started,
        status,
    };
    Ok((container, session))
}

/// Whether the document has a namespace of that kind.
fn has(task: &TaskSpec, kind: NamespaceKind) -> bool {
    let linux = task.spec.linux.as_ref();
    linux.is_some_and(|l| l.namespaces.iter().any(|n| n.kind == kind))
}

fn make_cgroup(world: &World, task: &TaskSpec) -> Result<Cgroup> {
    let linux = task.spec.linux.clone().unwrap_or_default();
    let failed = |e: crate::cgroup::Error| Error::internal(format!("cgroup: {e}"));
    let path = CgroupPath::from_bundle(&linux.cgroups_path, &task.id).map_err(failed)?;
    let resources = linux.resources.unwrap_or_default();
    let made = world.cgroups.create(path.as_str(), &resources);
    made.map_err(failed)
}

fn begin(
    world: &World,
    request: &Spawn,
    received: Received,
    cgroup: &Cgroup,
) -> Result<(Started, Session, Status)> {
    let task = &request.task;
    let log =
        Log::open(&task.log, task.forward.as_ref()).context(|| "opening the log".to_owned())?;
    let process = task.spec.process.as_ref();
    let terminal = process.is_some_and(|p| p.terminal);
    let wanted = Wanted {
        terminal,
        stdin: task.open_stdin,
        stdin_once: task.stdin_once,
        stdout: true,
        stderr: true,
    };
    let (mut session, stdio) = Session::new(wanted, log)?;
    for (socket, options) in received.attach.into_iter().zip(&request.attach) {
        session.attach(socket, *options, terminal);
    }
    let mut started = match foreign::of(task) {
        Some(foreign) => foreign.start(
            world,
            foreign::Parts {
                root: received.root,
                given: received.given,
                sources: received.sources,
                stdio,
                cgroup,
            },
        )?,
        None => init::start(
            world,
            init::Start {
                id: &task.id,
                spec: &task.spec,
                bundle: &task.dir,
                filter: request.filter.as_ref(),
                root: received.root,
                given: received.given,
                sources: received.sources,
                cgroup,
                stdio,
                gate: if task.wait_for_start {
                    Gate::Parent
                } else {
                    Gate::Open
                },
                bound_to_parent: true,
                init: task.init,
                preserve_fds: 0,
            },
        )?,
    };
    let pid = started.pid.as_raw_pid();
    let finished = finish(&mut started, &mut session, task, cgroup);
    match finished {
        Ok(status) => Ok((started, session, status)),
        Err(error) => {
            // Nothing of a failed start goes on.
            let _ = rustix::process::pidfd_send_signal(
                started.pidfd.as_fd(),
                rustix::process::Signal::KILL,
            );
            let _ = rustix::process::waitpid(
                rustix::process::Pid::from_raw(pid),
                rustix::process::WaitOptions::empty(),
            );
            if let Some(foreign) = foreign::of(task) {
                foreign.delete();
            }
            Err(error)
        }
    }
}

fn finish(
    started: &mut Started,
    session: &mut Session,
    task: &TaskSpec,
    cgroup: &Cgroup,
) -> Result<Status> {
    let pid = started.pid.as_raw_pid();
    if let Some(master) = started.terminal.take() {
        session.set_terminal(master)?;
    }
    let mut warnings = std::mem::take(&mut started.warnings);
    warnings.extend_from_slice(cgroup.warnings());
    if !task.wait_for_start {
        poststart(task, pid, &mut warnings);
    }
    Ok(Status {
        pid,
        shim_pid: rustix::process::getpid().as_raw_pid(),
        start_time: start_time(pid).context(|| format!("process {pid}"))?,
        exit: None,
        exec_exits: Vec::new(),
        execs: Vec::new(),
        warnings,
    })
}

/// The hooks that we run: another runtime runs them itself.
fn own_hooks(task: &TaskSpec) -> Option<&Hooks> {
    task.spec.hooks.as_ref().filter(|_| task.runtime.is_none())
}

/// A failing hook of this point is told and changes nothing.
pub(super) fn poststart(task: &TaskSpec, pid: i32, warnings: &mut Vec<String>) {
    let Some(hooks) = own_hooks(task) else {
        return;
    };
    let state = hooks::state(
        &task.spec,
        &task.id,
        OciStatus::Running,
        Some(pid),
        &task.dir,
    );
    if let Err(error) = hooks::run("poststart", &hooks.poststart, &state) {
        warnings.push(error.to_string());
    }
}

/// Runs what is to be run when nothing of the container is left.
pub(super) fn poststop(task: &TaskSpec) {
    let Some(hooks) = own_hooks(task) else {
        return;
    };
    let state = hooks::state(&task.spec, &task.id, OciStatus::Stopped, None, &task.dir);
    // There is nobody left to tell.
    let _ = hooks::run("poststop", &hooks.poststop, &state);
}
