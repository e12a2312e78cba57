//! A further process in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_spec::oci::runtime::{Process, State};
use berth_sys::process::{self as sys, Forked};
use berth_sys::root::RootFd;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, openat};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::message::{self, Channel, FromChild};
use super::notify::{self, Agent};
use super::process::ProcessPlan;
use super::{Started, Stdio, child, console, end, give_streams, identity, listen, take_stdio};
use crate::cgroup::{Cgroup, Join, SubCgroup};
use crate::error::{Context, Error, Result};
use crate::launcher::World;
use crate::seccomp_filter::Filter;
use crate::user_namespace;

/// Whose namespaces are joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub pid: Pid,
    pub pidfd: BorrowedFd<'a>,
}

/// A process to start.
pub(crate) struct Exec<'a> {
    pub process: &'a Process,
    pub filter: Option<&'a Filter>,
    /// The container's first process: a child of ours, or one made sure to be still the same.
    pub container: Target<'a>,
    /// Its PID namespace, if that is not ours.
    pub pid_namespace: Option<BorrowedFd<'a>>,
    pub own_user: bool,
    pub own_time: bool,
    pub cgroup: &'a Cgroup,
    /// Cgroups below that one to be in instead.
    pub below: &'a [SubCgroup],
    pub stdio: Stdio,
    pub bound_to_parent: bool,
    pub preserve_fds: u32,
    /// The container, for who decides upon its system calls.
    pub state: &'a dyn Fn() -> State,
}

/// Copies this process into the container. What comes of it is heard by
/// [`progress`], so that a caller need not wait here.
pub(crate) fn start(world: &World, exec: Exec<'_>) -> Result<Started> {
    let mut warnings = Vec::new();
    let plan = ProcessPlan::new(exec.process, exec.filter, exec.own_user, &mut warnings)?;
    let mut join = join(exec.cgroup, exec.below)?;
    let pair = match &exec.stdio {
        Stdio::Terminal => Some(console::open(
            devpts(world, exec.container.pid)?,
            plan.console_size,
        )?),
        Stdio::Files(_) => None,
    };
    if exec.own_user {
        let process = exec.container.pid.as_raw_pid().to_string();
        give_streams(world, &process, plan.uid, &exec.stdio)?;
        if let Some((_, slave)) = &pair {
            // It is made by who is not known in the container.
            let root = user_namespace::uid_outside(&world.procfs, &process, 0)?;
            let root = root.map(Uid::from_raw);
            fchown(slave, root, None::<Gid>).context(|| "the terminal".to_owned())?;
        }
    }
    let (parent_end, child_end) = message::pair()?;
    if let Some(namespace) = exec.pid_namespace {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::ProcessID))
            .context(|| "joining the container's PID namespace".to_owned())?;
    }
    let mut forked = sys::clone3(0, join.into.as_ref().map(AsFd::as_fd));
    if let Err(e) = &forked
        && e.raw_os_error() == Some(Errno::BUSY.raw_os_error())
        && exec.below.is_empty()
        && let Some(beside) = beside_init(world, &exec)?
    {
        join = beside;
        forked = sys::clone3(0, join.into.as_ref().map(AsFd::as_fd));
    }
    if let Ok(Forked::Child) = forked {
        drop(parent_end);
        let slave = pair.map(|(_, slave)| slave);
        run(world, plan, exec, &join, slave, &child_end)
    }
    let home = match exec.pid_namespace {
        Some(_) => {
            move_into_link_name_space(world.pids.as_fd(), Some(LinkNameSpaceType::ProcessID))
        }
        None => Ok(()),
    };
    let into = || match exec.below {
        [] => "cloning the exec process: error adding pid to cgroups".to_owned(),
        [(_, path), ..] => format!("error adding pid to cgroups: {path:?}"),
    };
    let Forked::Parent { pid, pidfd } = forked.context(into)? else {
        return Err(Error::internal("a copy went the wrong way"));
    };
    if let Err(e) = home {
        end(&pidfd);
        return Err(e).context(|| "returning to the PID namespace".to_owned());
    }
    Ok(Started {
        pid,
        pidfd,
        terminal: pair.map(|(master, _)| master),
        warnings,
        channel: parent_end,
        executing: false,
        agent: Agent::of(exec.filter.and_then(|f| f.listener.as_ref()), exec.state),
    })
}

fn join(cgroup: &Cgroup, below: &[SubCgroup]) -> Result<Join> {
    match below {
        [] => cgroup.join().context(|| "cgroup".to_owned()),
        below => cgroup
            .join_below(below)
            .map_err(|e| Error::invalid(e.to_string())),
    }
}

/// The container's cgroup may hold no process any more, where it has handed controllers to cgroups
/// below (v2): then a further process goes where the first one went.
fn beside_init(world: &World, exec: &Exec<'_>) -> Result<Option<Join>> {
    let path = format!("{}/cgroup", exec.container.pid.as_raw_pid());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let listed = openat(&world.procfs, path, flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|file| std::io::read_to_string(std::fs::File::from(file)))
        .context(|| "the container's cgroup".to_owned())?;
    let below = exec.cgroup.below_of(&listed);
    below.map(|below| join(exec.cgroup, &[below])).transpose()
}

/// The devpts that the container has at `/dev/pts`. It is looked up inside its root; that it is one,
/// and what is opened of it, is checked before it is used.
fn devpts(world: &World, container: Pid) -> Result<OwnedFd> {
    let what = || "/dev/pts of the container".to_owned();
    let path = format!("{}/root", container.as_raw_pid());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(&world.procfs, path, flags, Mode::empty()).context(what)?;
    let root = RootFd::new(root).context(what)?;
    root.open_dir(Path::new("/dev/pts")).invalid(what)
}

/// Hears the process out until its program runs; false where there is nothing more to hear for the
/// moment.
///
/// # Errors
/// Why it does not; then the process is ended and waited for.
pub(crate) fn progress(started: &mut Started) -> Result<bool> {
    listen(started, &|| Ok(())).inspect_err(|_| end(&started.pidfd))
}

fn run(
    world: &World,
    plan: ProcessPlan,
    exec: Exec<'_>,
    join: &Join,
    slave: Option<OwnedFd>,
    channel: &Channel,
) -> ! {
    let Err(error) = climb(world, plan, exec, join, slave, channel);
    let _ = channel.tell(&FromChild::Failed(error), &[]);
    sys::exit(1)
}

fn climb(
    world: &World,
    mut plan: ProcessPlan,
    exec: Exec<'_>,
    join: &Join,
    slave: Option<OwnedFd>,
    channel: &Channel,
) -> Result<Infallible> {
    child::begin(world, exec.bound_to_parent, plan.oom_score_adj, channel)?;
    plan.scheduling.place()?;
    let unified = join.unified_procs.iter().filter(|_| join.into.is_none());
    for procs in join.procs.iter().chain(unified) {
        rustix::io::write(procs, b"0").context(|| "joining the cgroup".to_owned())?;
    }
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    if exec.own_user {
        namespaces |= ThreadNameSpaceType::USER;
        // They cannot be raised from inside.
        identity::limit(&plan.rlimits)?;
    }
    if exec.own_time {
        namespaces |= ThreadNameSpaceType::TIME;
    }
    move_into_thread_name_spaces(exec.container.pidfd, namespaces)
        .context(|| "joining the container's namespaces".to_owned())?;
    if exec.own_user {
        child::become_root()?;
    }
    match (&exec.stdio, &slave) {
        (_, Some(slave)) => console::take(slave.as_fd())?,
        (Stdio::Files(Some(files)), None) => take_stdio(files.each_ref().map(AsFd::as_fd))?,
        _ => {}
    }
    // Entering a mount namespace made its root ours.
    let root = RootFd::open(Path::new("/")).context(|| "the root".to_owned())?;
    let file = child::prepare(&mut plan, &root)?;
    drop(root);
    notify::load(&plan, channel)?;
    let last = child::Last {
        bound_to_parent: exec.bound_to_parent,
        preserve_fds: exec.preserve_fds,
    };
    child::execute(&plan, &file, channel, last)
}
