//! The one that goes ahead of a container's first process.
//!
//! A copy of the parent joins the user namespace, which is a way of no return, and has the container's
//! process there, as a child of its own parent. It tells the child's number and ends.

use std::os::fd::{AsFd, OwnedFd};

use berth_sys::process::{self as sys, Forked};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::message::{Channel, FromChild, Heard};
use super::plan::Plan;
use super::{end, ended_early};
use crate::error::{Context, Error, Result};
use crate::launcher::World;

/// Goes there. Returns in the container's process; the caller itself ends here.
pub(super) fn go(world: &World, plan: &Plan, channel: &Channel) {
    let message = match bear(world, plan) {
        Ok(Forked::Child) => return,
        Ok(Forked::Parent { pid, .. }) => FromChild::Born {
            pid: pid.as_raw_pid(),
        },
        Err(error) => FromChild::Failed(error),
    };
    // Without a parent that hears, the child is told so by the closed channel.
    let _ = channel.tell(&message, &[]);
    sys::exit(0)
}

fn bear(world: &World, plan: &Plan) -> Result<Forked> {
    plan.namespaces.go_ahead(world)?;
    if plan.from_empty {
        move_into_link_name_space(world.empty.as_fd(), Some(LinkNameSpaceType::Mount))
            .context(|| "going to the empty mount namespace".to_owned())?;
    }
    let into = plan.join.into.as_ref().map(AsFd::as_fd);
    sys::clone_sibling(plan.namespaces.flags, into)
        .context(|| "cloning the container's process".to_owned())
}

/// Hears of the birth, and forgets the one that went ahead.
pub(super) fn born(channel: &Channel, ahead: &OwnedFd) -> Result<(Pid, OwnedFd)> {
    let heard = channel.hear();
    let early = matches!(heard, Ok(Heard::End | Heard::Nothing)).then(|| ended_early(ahead));
    // It has ended, or is about to.
    let _ = waitid(WaitId::PidFd(ahead.as_fd()), WaitIdOptions::EXITED);
    match (heard?, early) {
        (Heard::Message(FromChild::Born { pid }, _), _) => {
            let pid = Pid::from_raw(pid).ok_or_else(|| Error::internal("no process was born"))?;
            // Our child: its number is its own until we wait for it.
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => Ok((pid, pidfd)),
                Err(e) => {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                    Err(e).context(|| "the container's process".to_owned())
                }
            }
        }
        (Heard::Message(FromChild::Failed(error), _), _) => Err(error),
        (_, Some(error)) => Err(error),
        _ => {
            end(ahead);
            Err(Error::internal("the birth of a process was not told"))
        }
    }
}
