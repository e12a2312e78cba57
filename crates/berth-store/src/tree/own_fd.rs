//! The path of one of this process's own descriptors, for the calls that take nothing else.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the working directory is this process's `/proc/self/fd`.
static AT_HAND: AtomicBool = AtomicBool::new(false);

/// From now on the working directory, and not `/proc`, is where descriptors are found: for a process
/// whose root has no `/proc`, or one that is not to be trusted.
pub(super) fn find_in_working_directory() {
    AT_HAND.store(true, Ordering::Relaxed);
}

/// Leads to what the descriptor is of, even a link.
pub(crate) fn path(fd: impl AsFd) -> String {
    let number = fd.as_fd().as_raw_fd();
    if AT_HAND.load(Ordering::Relaxed) {
        number.to_string()
    } else {
        format!("/proc/self/fd/{number}")
    }
}
