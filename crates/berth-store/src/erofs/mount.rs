//! Mounting an index image with the kernel, detached: no mount table shows it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// Mounts `index` with its devices (the tar, then the side file if there is one).
///
/// The kernel opens the files itself by the names it is given; descriptors are named through
/// `/proc/self/fd`, so that neither the length of a path nor its renaming matters.
pub(crate) fn mount(index: BorrowedFd<'_>, devices: &[BorrowedFd<'_>]) -> Result<OwnedFd, Errno> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", name(index))?;
    for device in devices {
        fsconfig_set_string(context.as_fd(), "device", name(*device))?;
    }
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}

fn name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
