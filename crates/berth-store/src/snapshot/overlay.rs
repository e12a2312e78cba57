//! One overlay mount, detached, through the kernel's mount API.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// How overlayfs is told of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// As a descriptor, which may be of a detached mount (since Linux 6.13).
    Descriptor,
    /// By its name in `/proc/self/fd`; it has to be in the mount table (since Linux 6.7).
    Name,
}

/// The writable part of an overlay.
#[derive(Clone, Copy)]
pub(crate) struct Upper<'a> {
    pub(crate) upper: BorrowedFd<'a>,
    pub(crate) work: BorrowedFd<'a>,
    /// Nothing is synced: for what is thrown away, or committed as a whole.
    pub(crate) volatile: bool,
}

/// Mounts `lowers` (topmost first, at least one; at least two without `upper`) with `upper` over
/// them.
pub(crate) fn overlay(
    lowers: &[BorrowedFd<'_>],
    upper: Option<Upper<'_>>,
    by: By,
) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "overlay")?;
    for lower in lowers {
        set_directory(context, "lowerdir+", *lower, by)?;
    }
    // What these would put into the upper directory, no layer format can hold; see the kernel's
    // Documentation/filesystems/overlayfs.rst.
    fsconfig_set_string(context, "redirect_dir", "nofollow")?;
    for option in ["index", "metacopy", "xino"] {
        fsconfig_set_string(context, option, "off")?;
    }
    let mut attributes = MountAttrFlags::empty();
    match upper {
        Some(upper) => {
            set_directory(context, "upperdir", upper.upper, by)?;
            set_directory(context, "workdir", upper.work, by)?;
            if upper.volatile {
                fsconfig_set_flag(context, "volatile")?;
            }
        }
        None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
    }
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn set_directory(
    context: BorrowedFd<'_>,
    key: &str,
    directory: BorrowedFd<'_>,
    by: By,
) -> Result<(), Errno> {
    match by {
        By::Descriptor => fsconfig_set_fd(context, key, directory),
        By::Name => {
            let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
            fsconfig_set_string(context, key, name)
        }
    }
}
