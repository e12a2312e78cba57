//! Waiting until a descriptor can be read.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor that does not block.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // Deprecated because the type owned here need not be a descriptor for its lifetime. An `OwnedFd`
    // is, and it is never closed before its registration ends.
    #[allow(deprecated)]
    AsyncFd::with_interest(fd, Interest::READABLE)
}
