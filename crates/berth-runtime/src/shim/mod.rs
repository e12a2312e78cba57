//! The process that looks after one container.

pub(crate) mod protocol;

use std::os::fd::OwnedFd;

use berth_sys::process;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::Error;
use crate::launcher::World;
use protocol::Reply;

/// Lives as the shim of the container that `connection` asks for.
pub(crate) fn run(world: World, connection: OwnedFd) -> ! {
    drop(world);
    let error = Error::internal("containers cannot be started by this build");
    let _ = protocol::send(&connection, &Reply::Failed(error), &[]);
    process::exit(1)
}

/// Points standard input and output, and `error` if asked, at nothing.
pub(crate) fn silence(error: bool) {
    let Ok(null) = openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    if error {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
