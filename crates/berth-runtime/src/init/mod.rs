//! From a copy of the shim to the user's program.
//!
//! [`start`] makes the first process of a container, [`exec::start`] a further one. Everything is
//! checked and opened by the parent beforehand (`plan`, `process`); then the copy climbs the ladder
//! (`child`) while the parent listens (`message` draws what they say). Whoever calls is single-threaded, so that the copy
//! may go on with ordinary code.

mod ahead;
mod child;
mod console;
mod copy_up;
mod dev;
pub(crate) mod exec;
mod identity;
mod mask;
pub(crate) mod message;
mod mounts;
mod namespace;
mod notify;
mod options;
mod plan;
mod process;
mod program;
mod reaper;
mod rootfs;
mod scheduling;
pub(crate) mod sysctl;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_spec::oci::runtime::{Spec, Status};
use berth_sys::process::{self as sys, Forked};
use rustix::fs::{AtFlags, Gid, Uid, chownat, fchown};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::launcher::World;
use crate::seccomp_filter::Filter;
use crate::user_namespace;
use message::{Channel, FromChild, Heard};
pub(crate) use mounts::make_place;
pub(crate) use namespace::Given;
use notify::Agent;
use plan::Plan;

/// A container to start.
pub(crate) struct Start<'a> {
    pub id: &'a str,
    pub spec: &'a Spec,
    /// What relative paths of the document start from.
    pub bundle: &'a Path,
    pub filter: Option<&'a Filter>,
    pub root: OwnedFd,
    /// Namespaces to be in, instead of what the document says.
    pub given: Given,
    pub sources: Vec<(usize, OwnedFd)>,
    pub cgroup: &'a Cgroup,
    pub stdio: Stdio,
    pub gate: Gate,
    pub bound_to_parent: bool,
    /// The first process stays, with the program as its child.
    pub init: bool,
    pub preserve_fds: u32,
}

/// What the program has as standard input, output and error.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// A terminal, which is made in the container.
    Terminal,
    /// These. `None` leaves the parent's.
    Files(Option<[OwnedFd; 3]>),
}

/// Whether the program runs at once.
#[derive(Debug)]
pub(crate) enum Gate {
    Open,
    /// The parent says go.
    Parent,
    /// Somebody opens the other end of this FIFO.
    Fifo(OwnedFd),
}

/// A process that has come as far as it was to come.
#[derive(Debug)]
pub(crate) struct Started {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
    pub warnings: Vec<String>,
    pub channel: Channel,
    /// It has said that it is about to run its program.
    executing: bool,
    /// Who decides upon its system calls.
    agent: Option<Agent>,
}

impl Started {
    /// Hears whether the program of a process that was let go is run.
    pub fn hear_out(&mut self) -> Result<()> {
        listen(self, &|| Ok(())).map(drop)
    }

    /// A process that somebody else started for us, and whose program runs.
    pub fn elsewhere(pid: Pid, terminal: Option<OwnedFd>) -> Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .context(|| format!("process {pid}"))?;
        // Its other end is closed: there is nothing more to hear.
        let (channel, _) = message::pair()?;
        Ok(Self {
            pid,
            pidfd,
            terminal,
            warnings: Vec::new(),
            channel,
            executing: true,
            agent: None,
        })
    }
}

/// Starts a container's first process. When this returns its program runs, or it waits at its gate.
/// On an error nothing of it is left.
pub(crate) fn start(world: &World, start: Start<'_>) -> Result<Started> {
    let mut warnings = Vec::new();
    let (id, spec, bundle) = (start.id, start.spec, start.bundle);
    let state = |pid: Pid| {
        let pid = Some(pid.as_raw_pid());
        hooks::state(spec, id, Status::Creating, pid, bundle)
    };
    let listener = start.filter.and_then(|filter| filter.listener.as_ref());
    let mut plan = Plan::new(world, start, &mut warnings)?;
    let (parent_end, child_end) = message::pair()?;
    let needs = Needs::of(&mut plan);
    let hooks_set = (
        plan.hooks.prestart.clone(),
        plan.hooks.create_runtime.clone(),
    );
    let born = match clone_into(world, &plan, &child_end)? {
        Forked::Child => {
            drop(parent_end);
            child::run(world, plan, &child_end, &state)
        }
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    // What the process has for its streams may have to be given to it.
    let indirect = plan.namespaces.indirect();
    let stdio = std::mem::replace(&mut plan.stdio, Stdio::Files(None));
    drop((plan, child_end));
    let (pid, pidfd) = match indirect {
        true => ahead::born(&parent_end, &born.1)?,
        false => born,
    };
    let mut started = Started {
        pid,
        pidfd,
        terminal: None,
        warnings,
        channel: parent_end,
        executing: false,
        agent: Agent::of(listener, || state(pid)),
    };
    let result = set_up(world, &mut started, needs, &stdio).and_then(|()| {
        drop(stdio);
        listen(&mut started, &|| {
            hooks::run("prestart", &hooks_set.0, &state(pid))?;
            hooks::run("createRuntime", &hooks_set.1, &state(pid))
        })
    });
    match result {
        Ok(_) => Ok(started),
        Err(error) => {
            end(&started.pidfd);
            Err(error)
        }
    }
}

/// Copies this process into its namespaces, and brings the original back to where it was. Where the
/// way there is [`Namespaces::indirect`], what is born here is the one that goes ahead; its answer
/// comes over the channel.
///
/// [`Namespaces::indirect`]: namespace::Namespaces::indirect
fn clone_into(world: &World, plan: &Plan, channel: &Channel) -> Result<Forked> {
    let what = || "cloning the container's process".to_owned();
    if plan.namespaces.indirect() {
        return match sys::fork().context(what)? {
            Forked::Child => {
                ahead::go(world, plan, channel);
                Ok(Forked::Child)
            }
            parent => Ok(parent),
        };
    }
    if let Some(pid) = &plan.namespaces.pid {
        move_into_link_name_space(pid.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .context(|| "joining the PID namespace".to_owned())?;
    }
    let moved = if plan.from_empty {
        move_into_link_name_space(world.empty.as_fd(), Some(LinkNameSpaceType::Mount))
    } else {
        Ok(())
    };
    let into = plan.join.into.as_ref().map(AsFd::as_fd);
    let forked = match moved {
        Ok(()) => sys::clone3(plan.namespaces.flags, into),
        Err(e) => Err(e.into()),
    };
    if let Ok(Forked::Child) = forked {
        return Ok(Forked::Child);
    }
    let home = come_home(world, plan);
    match (forked, home) {
        (Ok(Forked::Parent { pidfd, .. }), Err(e)) => {
            end(&pidfd);
            Err(e)
        }
        (forked, _) => forked.context(what),
    }
}

fn come_home(world: &World, plan: &Plan) -> Result<()> {
    if plan.namespaces.pid.is_some() {
        move_into_link_name_space(world.pids.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .context(|| "returning to the PID namespace".to_owned())?;
    }
    if plan.from_empty {
        move_into_link_name_space(world.home.as_fd(), Some(LinkNameSpaceType::Mount))
            .context(|| "returning to the mount namespace".to_owned())?;
    }
    Ok(())
}

/// Files of a cgroup that a delegate may write to, where the kernel does not tell.
const DELEGATED: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

/// What the parent does for a child in another user namespace, which may not do so itself.
struct Needs {
    indirect: bool,
    user: bool,
    oom_score_adj: Option<i32>,
    rlimits: Vec<(Resource, Rlimit)>,
    uid: u32,
    cgroup: Option<OwnedFd>,
}

impl Needs {
    fn of(plan: &mut Plan) -> Self {
        let user = plan.namespaces.own_user();
        Self {
            indirect: plan.namespaces.indirect(),
            user,
            oom_score_adj: plan.process.oom_score_adj.filter(|_| user),
            rlimits: plan.process.rlimits.clone(),
            uid: plan.process.uid,
            cgroup: plan.own_cgroup.take(),
        }
    }
}

fn set_up(world: &World, started: &mut Started, needs: Needs, stdio: &Stdio) -> Result<()> {
    // The number is our child's as long as we do not wait for it.
    let process = started.pid.as_raw_pid().to_string();
    if let Some(value) = needs.oom_score_adj {
        started
            .warnings
            .extend(set_oom_score(world, &process, value)?);
    }
    if needs.user {
        identity::raise_limits(started.pid, &needs.rlimits)?;
        give_streams(world, &process, needs.uid, stdio)?;
    }
    if let Some(cgroup) = needs.cgroup
        && let Some((uid, gid)) = user_namespace::root_outside(&world.procfs, &process)?
    {
        give_cgroup(&cgroup, uid, gid)?;
    }
    match needs.indirect {
        true => started.channel.go(),
        false => Ok(()),
    }
}

/// Lets a user make and fill cgroups below this one; its limits stay out of his reach (cgroups(7),
/// "Cgroups delegation").
fn give_cgroup(cgroup: &OwnedFd, uid: u32, gid: u32) -> Result<()> {
    let what = || "delegating the cgroup".to_owned();
    let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let listed = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
    let listed = listed.unwrap_or_else(|_| DELEGATED.to_owned());
    fchown(cgroup, user, group).context(what)?;
    for name in listed.lines().filter(|name| !name.contains('/')) {
        match chownat(cgroup, name, user, group, AtFlags::SYMLINK_NOFOLLOW) {
            // Not every cgroup has every file.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e).context(what),
        }
    }
    Ok(())
}

/// Gives a program its standard streams, which are ours: by its user's number outside of the user
/// namespace of `process`.
fn give_streams(world: &World, process: &str, uid: u32, stdio: &Stdio) -> Result<()> {
    let Some(uid) = user_namespace::uid_outside(&world.procfs, process, uid)? else {
        // The program's own user does not exist; that is told when it is to become that.
        return Ok(());
    };
    match stdio {
        Stdio::Terminal => Ok(()),
        Stdio::Files(Some(files)) => console::give(files.each_ref().map(AsFd::as_fd), uid),
        Stdio::Files(None) => console::give_own(uid),
    }
}

/// Sets the score of a process, given by its directory in procfs. Lowering it takes
/// CAP_SYS_RESOURCE: without it the score stays, and the answer says so.
fn set_oom_score(world: &World, process: &str, value: i32) -> Result<Option<String>> {
    if !(-1000..=1000).contains(&value) {
        return Err(Error::invalid(format!(
            "oomScoreAdj {value} is not in -1000..1000"
        )));
    }
    let path = format!("{process}/oom_score_adj");
    match sysctl::write(&world.procfs, &path, &value.to_string()) {
        Err(Errno::ACCESS | Errno::PERM) => Ok(Some(format!(
            "oomScoreAdj {value} is lower than this process may set"
        ))),
        result => result.map(|()| None).context(|| "oom_score_adj".to_owned()),
    }
}

/// Hears the child out until it runs its program or waits at its gate. Answers false where there is
/// nothing more to hear for the moment, which is told by a channel that does not block.
fn listen(started: &mut Started, hooks: &dyn Fn() -> Result<()>) -> Result<bool> {
    loop {
        match started.channel.hear()? {
            Heard::Message(FromChild::Hooks, _) => {
                hooks()?;
                started.channel.go()?;
            }
            Heard::Message(FromChild::Terminal, fds) => {
                let [master] = <[OwnedFd; 1]>::try_from(fds)
                    .map_err(|_| Error::internal("the terminal did not come"))?;
                started.terminal = Some(master);
            }
            Heard::Message(FromChild::Born { .. }, _) => {
                return Err(Error::internal("the process was born twice"));
            }
            Heard::Message(FromChild::Warning(text), _) => started.warnings.push(text),
            Heard::Message(FromChild::Ready, _) => return Ok(true),
            Heard::Message(FromChild::Executing, _) => started.executing = true,
            Heard::Message(FromChild::Failed(error), _) => return Err(error),
            Heard::Listener(number) => {
                let agent = started.agent.as_ref();
                let agent = agent.ok_or_else(|| Error::internal("a listener for nobody"))?;
                agent.hand_over(started.pid, started.pidfd.as_fd(), number)?;
                started.channel.go()?;
            }
            Heard::End if started.executing => return Ok(true),
            Heard::End => return Err(ended_early(&started.pidfd)),
            Heard::Nothing => return Ok(false),
        }
    }
}

impl Started {
    /// Lets a process go that waits at [`Gate::Parent`], and hears how that goes.
    pub fn open_gate(&mut self) -> Result<()> {
        self.channel.go()?;
        listen(self, &|| Ok(())).map(drop)
    }
}

/// Ends a process that is not to be, and forgets it.
fn end(pidfd: &OwnedFd) {
    // It may have ended itself.
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}

fn ended_early(pidfd: &OwnedFd) -> Error {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let how = match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(Some(status)) => match status.terminating_signal() {
            // Limits of memory are the usual cause.
            Some(9) => "it was killed, most likely for want of memory".to_owned(),
            Some(signal) => format!("it was killed by signal {signal}"),
            None => format!("it ended with code {:?}", status.exit_status()),
        },
        _ => "it is gone".to_owned(),
    };
    Error::internal(format!("container init did not come up: {how}"))
}

/// Gives the program its standard streams.
fn take_stdio(files: [BorrowedFd<'_>; 3]) -> Result<()> {
    let what = || "standard streams".to_owned();
    rustix::stdio::dup2_stdin(files[0]).context(what)?;
    rustix::stdio::dup2_stdout(files[1]).context(what)?;
    rustix::stdio::dup2_stderr(files[2]).context(what)
}
