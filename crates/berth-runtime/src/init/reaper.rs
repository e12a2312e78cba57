//! `--init`: the container's first process stays, and the user's is its child.
//!
//! It hands signals on, takes in the orphans of the container and ends as the user's process did. It
//! is a copy of the shim that runs no program, so that nothing of the host has to be brought into the
//! container; it has given up what the user's process has not, and everything it had open.

use std::convert::Infallible;
use std::ffi::CString;

use berth_sys::held_signals::{self, HeldSignals};
use berth_sys::process::{self as sys, Forked};
use rustix::process::{DumpableBehavior, Pid, WaitOptions, WaitStatus, set_dumpable_behavior};

use super::child::{self, Last};
use super::identity;
use super::message::Channel;
use super::process::ProcessPlan;
use crate::error::{Context, Error, Result};
use crate::launcher::World;

/// What `ps` shows, as Docker's.
const PATH: &str = "/sbin/docker-init";

/// Runs the program as a child, and ends with it. Returns only where that failed; in either process.
pub(super) fn run(
    world: &World,
    process: &ProcessPlan,
    file: &CString,
    channel: &Channel,
    last: Last,
) -> Result<Infallible> {
    let what = || "becoming the container's init".to_owned();
    show(world, process).context(what)?;
    let signals = HeldSignals::hold().context(what)?;
    // With the container's rights this call might be filtered.
    let child =
        match sys::clone3(0, None).context(|| "cloning the container's process".to_owned())? {
            Forked::Child => {
                own_foreground();
                sys::reset_signals();
                if last.bound_to_parent {
                    child::die_with_parent()?;
                }
                return child::execute(process, file, channel, last);
            }
            Forked::Parent { pid, .. } => pid,
        };
    // Orphans come to the first process of a PID namespace by themselves.
    if rustix::process::getpid() != Pid::INIT {
        let own = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(own).context(what)?;
    }
    identity::assume(process)?;
    if last.bound_to_parent {
        child::die_with_parent()?;
    }
    // Changing identity forgets it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context(what)?;
    // The channel too, whose end tells that the program runs. Nothing is told from here on.
    if sys::close_between(0, u32::MAX).is_err() {
        return Err(Error::internal("closing what the init had open"));
    }
    sys::exit(serve(&signals, child))
}

/// Hands signals on until the child ends; its exit code, 128 + n after signal n.
fn serve(signals: &HeldSignals, child: Pid) -> i32 {
    loop {
        let signal = signals.next();
        if signal != held_signals::CHILD {
            // One that may not be sent, to a program with more rights, is lost, as with any init.
            let _ = held_signals::send_to_child(child, signal);
            continue;
        }
        if let Some(code) = reap(child) {
            return code;
        }
    }
}

fn reap(child: Pid) -> Option<i32> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => return Some(code(status)),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            // None has ended; or the child is gone though nobody else could wait for it.
            Ok(None) => return None,
            Err(_) => return Some(255),
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    signal.or(status.exit_status()).unwrap_or(255)
}

/// The user's process is a group of its own, which has the terminal if there is one: what is typed
/// reaches it once, and not by way of its init.
fn own_foreground() {
    // Neither failure is one of the program: without a terminal there is no foreground.
    let _ = rustix::process::setpgid(None, None);
    let group = rustix::process::getpgrp();
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group);
}

/// Takes Docker's name for it, and no trace of the engine's arguments and environment.
fn show(world: &World, process: &ProcessPlan) -> std::io::Result<()> {
    use std::io::Read;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::empty();
    let file = rustix::fs::openat(&world.procfs, "self/stat", flags, mode)?;
    let mut stat = String::new();
    std::fs::File::from(file)
        .take(4096)
        .read_to_string(&mut stat)?;
    let mut shown: Vec<CString> = [PATH, "--"].into_iter().flat_map(CString::new).collect();
    shown.extend(process.args.iter().cloned());
    berth_sys::title::replace_arguments(&stat, &shown)?;
    sys::set_title(c"docker-init");
    Ok(())
}
