//! System calls that somebody else decides upon (config-linux.md, "Seccomp"): the descriptor that
//! tells of them goes to the agent that listens at `listenerPath`.
//!
//! The process cannot send it itself: once the filter is on, any of its calls may wait for the agent,
//! which hears of nothing yet. But `write` is never one of them, so it tells its number to the parent,
//! which takes it out of the process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use berth_spec::oci::runtime::{OCI_VERSION, State};
use berth_sys::{seccomp, socket};
use rustix::process::{ForeignRawFd, Pid, PidfdGetfdFlags, pidfd_getfd};
use serde_json::json;

use super::message::Channel;
use super::process::ProcessPlan;
use crate::error::{Context, Error, Result, errno_text};
use crate::seccomp_filter::Listener;

/// Who is to get the descriptor, and what he is told of the container.
#[derive(Debug)]
pub(super) struct Agent {
    listener: Listener,
    state: State,
}

impl Agent {
    /// None where no listener is asked for.
    pub fn of(listener: Option<&Listener>, state: impl FnOnce() -> State) -> Option<Self> {
        listener.map(|listener| Self {
            listener: listener.clone(),
            state: state(),
        })
    }

    /// Takes the descriptor `number` out of the process and sends it.
    pub fn hand_over(&self, pid: Pid, pidfd: BorrowedFd<'_>, number: i32) -> Result<()> {
        let what = || "handing over the seccomp notify descriptor".to_owned();
        let fd =
            pidfd_getfd(pidfd, number as ForeignRawFd, PidfdGetfdFlags::empty()).context(what)?;
        let path = &self.listener.path;
        let agent = socket::connect(Path::new(path)).map_err(|e| {
            let text = errno_text(&e);
            Error::invalid(format!(
                "failed to connect with seccomp agent specified in the seccomp profile: {path}: {text}"
            ))
        })?;
        let told = json!({
            "ociVersion": OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": pid.as_raw_pid(),
            "metadata": self.listener.metadata,
            "state": self.state,
        });
        let text = told.to_string();
        match socket::send(agent, text.as_bytes(), &[fd.as_fd()]).context(what)? {
            sent if sent == text.len() => Ok(()),
            _ => Err(Error::internal(format!("{}: it did not take all", what()))),
        }
    }
}

/// In the process: puts on a filter that has a listener, and waits until that is with the agent. A
/// filter without one is put on later ([`identity::assume`]).
///
/// [`identity::assume`]: super::identity::assume
pub(super) fn load(process: &ProcessPlan, channel: &Channel) -> Result<()> {
    let Some((program, flags)) = process.filter.as_ref().filter(|_| process.notifies()) else {
        return Ok(());
    };
    let what = || "error loading seccomp filter".to_owned();
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context(|| "no_new_privs".to_owned())?;
    }
    let fd = seccomp::set_filter(program, *flags).context(what)?;
    let fd = fd.ok_or_else(|| Error::internal("a filter without its listener"))?;
    channel.tell_listener(fd.as_raw_fd()).context(what)?;
    channel.await_go()
}
