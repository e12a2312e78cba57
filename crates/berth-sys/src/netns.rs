//! Network namespaces, as properties of the calling thread.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Moves the calling thread alone into a new, empty network namespace.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: `unshare` is unsafe for CLONE_FILES only, which would take descriptors from under other threads; a network
    // namespace is the thread's own affair.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Moves the calling thread alone into `netns`.
pub fn enter_network(netns: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// The calling thread's network namespace.
pub fn current_network() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_thread_has_its_own_network_and_finds_back() {
        let link = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let here = link();
        std::thread::spawn(move || {
            let home = current_network().unwrap();
            unshare_network().unwrap();
            assert_ne!(link(), here);
            enter_network(home.as_fd()).unwrap();
            assert_eq!(link(), here);
        })
        .join()
        .unwrap();
    }
}
