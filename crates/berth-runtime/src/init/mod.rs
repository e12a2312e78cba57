//! From a copy of the shim to the user's program.
//!
//! [`start`] makes the first process of a container, [`exec::start`] a further one. Everything is
//! checked and opened by the parent beforehand (`plan`, `process`); then the copy climbs the ladder
//! (`child`) while the parent listens (`message` draws what they say). Whoever calls is single-threaded, so that the copy
//! may go on with ordinary code.

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
mod options;
mod plan;
mod process;
mod program;
mod rootfs;
mod sysctl;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_spec::oci::runtime::{Spec, Status};
use berth_sys::process::{self as sys, Forked};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::launcher::World;
use crate::seccomp_filter::Filter;
use message::{Channel, FromChild, Heard};
use plan::Plan;

/// A container to start.
pub(crate) struct Start<'a> {
    pub id: &'a str,
    pub spec: &'a Spec,
    /// What relative paths of the document start from.
    pub bundle: &'a Path,
    pub filter: Option<&'a Filter>,
    pub root: OwnedFd,
    pub netns: Option<OwnedFd>,
    pub sources: Vec<(usize, OwnedFd)>,
    pub cgroup: &'a Cgroup,
    pub stdio: Stdio,
    pub gate: Gate,
    pub bound_to_parent: bool,
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
    let plan = Plan::new(start, &mut warnings)?;
    let (parent_end, child_end) = message::pair()?;
    let user = plan.namespaces.own_user();
    let oom_score_adj = plan.process.oom_score_adj.filter(|_| user);
    let hooks_set = (
        plan.hooks.prestart.clone(),
        plan.hooks.create_runtime.clone(),
    );
    let maps = user.then(|| {
        (
            namespace::map_text(&plan.namespaces.uid_mappings),
            namespace::map_text(&plan.namespaces.gid_mappings),
        )
    });
    let forked = clone_into(world, &plan);
    let (pid, pidfd) = match forked {
        Ok(Forked::Child) => {
            drop(parent_end);
            child::run(world, plan, &child_end, &state)
        }
        Ok(Forked::Parent { pid, pidfd }) => (pid, pidfd),
        Err(e) => return Err(e),
    };
    drop((plan, child_end));
    let mut started = Started {
        pid,
        pidfd,
        terminal: None,
        warnings,
        channel: parent_end,
        executing: false,
    };
    let result = set_up(world, &mut started, oom_score_adj, maps).and_then(|()| {
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

/// Copies this process into its namespaces, and brings the original back to where it was.
fn clone_into(world: &World, plan: &Plan) -> Result<Forked> {
    let what = |verb: &str| format!("{verb} the container's process");
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
        (forked, _) => forked.context(|| what("cloning")),
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

/// What the parent does for the child that the child may not do itself.
fn set_up(
    world: &World,
    started: &mut Started,
    oom_score_adj: Option<i32>,
    maps: Option<(String, String)>,
) -> Result<()> {
    // The number is our child's as long as we do not wait for it.
    let pid = started.pid.as_raw_pid();
    if let Some(value) = oom_score_adj {
        // In its user namespace it could not do so itself.
        started
            .warnings
            .extend(set_oom_score(world, &pid.to_string(), value)?);
    }
    if let Some((uids, gids)) = maps {
        for (file, text) in [("gid_map", gids), ("uid_map", uids)] {
            sysctl::write(&world.procfs, &format!("{pid}/{file}"), &text)
                .invalid(|| format!("writing {file}"))?;
        }
        started.channel.go()?;
    }
    Ok(())
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
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(Some(format!(
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
            Heard::Message(FromChild::Warning(text), _) => started.warnings.push(text),
            Heard::Message(FromChild::Ready, _) => return Ok(true),
            Heard::Message(FromChild::Executing, _) => started.executing = true,
            Heard::Message(FromChild::Failed(error), _) => return Err(error),
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
