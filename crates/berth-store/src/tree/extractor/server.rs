//! The process that forks a process for each piece of work, and what that one does.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use berth_sys::process::{self, Forked};
use berth_sys::{empty_root, mount, socket};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::MESSAGE_MAX;
use super::job::{Reply, Task};
use super::walls;
use crate::{Error, Result};

/// Serves until the process `parent`, which holds the other end of `socket`, is gone.
pub(super) fn run(socket: OwnedFd, parent: Pid) -> ! {
    // A panic must not go on in the code of who forked us.
    let _guard = EndHere;
    process::set_title(c"berth-extractor");
    process::reset_signals();
    process::ignore_broken_pipes();
    process::ignore_children();
    die_with(parent);
    close_all_but(&socket);
    // Signals for the terminal of who forked us are not for us.
    let _ = rustix::process::setsid();
    let Ok(procfs) = leave() else {
        process::exit(1)
    };
    loop {
        let mut word = [0; 16];
        let Ok((1.., fds)) = socket::receive(&socket, &mut word) else {
            process::exit(0)
        };
        let Ok([connection]) = <[OwnedFd; 1]>::try_from(fds) else {
            continue;
        };
        let server = getpid();
        match process::fork() {
            Ok(Forked::Child) => {
                die_with(server);
                drop(socket);
                serve(&connection, procfs);
                process::exit(0)
            }
            // The client sees its connection end.
            Ok(Forked::Parent { .. }) | Err(_) => {}
        }
    }
}

/// Ends the process where it stands when it is dropped.
struct EndHere;

impl Drop for EndHere {
    fn drop(&mut self) {
        process::exit(101)
    }
}

/// Has the kernel end this process with its parent.
fn die_with(parent: Pid) {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid() != Some(parent) {
        process::exit(1)
    }
}

/// Closes what the parent had open, except standard error.
fn close_all_but(socket: &OwnedFd) {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(null) = openat(CWD, "/dev/null", flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    let kept = socket.as_raw_fd() as u32;
    if kept > 3 {
        let _ = process::close_between(3, kept - 1);
    }
    let _ = process::close_between(kept + 1, u32::MAX);
}

/// Leaves the world of files. What is kept of it is a procfs, mounted nowhere, in which processes
/// find their descriptors. Without privileges there is no leaving, and no procfs.
fn leave() -> io::Result<Option<OwnedFd>> {
    let attributes = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let left = mount::new_mount("proc", &[("subset", Some("pid"))], attributes)
        .and_then(|procfs| empty_root::enter().map(|()| procfs));
    match left {
        Ok(procfs) => Ok(Some(procfs)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            rustix::process::chdir("/")?;
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// One piece of work, from the question to the answer.
fn serve(connection: &OwnedFd, procfs: Option<OwnedFd>) {
    let reply = Reply::from(take(connection, procfs));
    if let Ok(text) = serde_json::to_vec(&reply) {
        // Nobody may be waiting any more.
        let _ = socket::send(connection, &text, &[]);
    }
}

fn take(connection: &OwnedFd, procfs: Option<OwnedFd>) -> Result<Reply> {
    let failed = |e: io::Error| Error::io("the extractor cannot read its task", e);
    let mut buffer = vec![0; MESSAGE_MAX];
    let (n, mut given) = socket::receive(connection, &mut buffer).map_err(failed)?;
    let Task { job, inside } =
        serde_json::from_slice(&buffer[..n]).map_err(|e| failed(e.into()))?;
    if inside {
        let users = given.pop();
        let users = users.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        walls::become_root_of(users.as_fd())?;
    }
    job.with_roots(&given, |roots| walls::close_in(roots, procfs))?;
    job.work(given)
}
