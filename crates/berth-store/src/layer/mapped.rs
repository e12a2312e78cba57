//! Directories whose owners are mapped by a user namespace.
//!
//! The kernel maps no overlay as a whole, but overlayfs follows the maps of the mounts it is made of. So
//! each layer is copied as a mount and mapped, and so is what is written over them: on disk nothing
//! is shifted, and a container's root is nevertheless the container's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::mount::{self, Attributes};
use rustix::fs::{Mode, OFlags, openat};

use crate::{Error, ErrorKind};

/// By what owners are mapped.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    /// The user namespace. User 0 on disk is its root.
    pub namespace: BorrowedFd<'a>,
    /// Who its root is outside.
    pub uid: u32,
    pub gid: u32,
}

/// A detached copy of what `directory` stands for, with its owners mapped by the user namespace
/// of `owners`.
pub(super) fn copy(directory: BorrowedFd<'_>, owners: &Owners<'_>) -> io::Result<OwnedFd> {
    let copy = mount::clone_handle(directory, false)?;
    let change = Attributes {
        idmap: Some(owners.namespace),
        ..Attributes::default()
    };
    mount::set_attributes(&copy, false, &change)?;
    Ok(copy)
}

/// What to say where the kernel cannot.
pub(super) fn refused(error: io::Error) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "this kernel cannot map the owners of a root file system for a user namespace: {error} \
             (Linux 6.15 and later can, and file systems that know ID-mapped mounts)"
        ),
    )
}

/// A directory in `directory`.
pub(crate) fn below(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(directory.as_fd(), name, flags, Mode::empty())?)
}
