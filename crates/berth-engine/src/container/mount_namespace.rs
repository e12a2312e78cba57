//! Work in the mount namespace of a running container.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use berth_sys::process;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Does `work` where the process `pid` sees its files: paths are the container's from then on, and so
/// is `/`. Only who is inside may copy or attach mounts there: a thread of its own goes, and ends there.
pub(super) fn enter<T: Send + 'static>(
    pid: i32,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    let inside = std::thread::spawn(move || {
        // Root and working directory stop being shared with the other threads.
        process::unshare(u64::from(UnshareFlags::FS.bits()))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        work()
    });
    inside
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
}

/// Whether a process is in this process's own user namespace.
pub(super) fn shares_users(pid: i32) -> bool {
    let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/user")).ok();
    of("self") == of(&pid.to_string())
}
