//! One overlay mount, detached, in the way that the kernel at hand understands.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, open_tree, unmount,
};

/// How overlayfs is told of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// As a descriptor, which may be of a detached mount (since Linux 6.13).
    Descriptor,
    /// By its name in `/proc/self/fd`; it has to be in the mount table (since Linux 6.7).
    Name,
    /// The same, with all names in one text, which the mount API does not take: mounted in the old
    /// way on an empty directory and detached from there at once.
    Options,
}

/// What these would put into the upper directory, no layer format can hold; see the kernel's
/// Documentation/filesystems/overlayfs.rst.
const SETTINGS: [(&str, &str); 4] = [
    ("redirect_dir", "nofollow"),
    ("index", "off"),
    ("metacopy", "off"),
    ("xino", "off"),
];

/// The writable part of an overlay.
#[derive(Clone, Copy)]
pub(crate) struct Upper<'a> {
    pub(crate) upper: BorrowedFd<'a>,
    pub(crate) work: BorrowedFd<'a>,
    /// Nothing is synced: for what is thrown away, or committed as a whole.
    pub(crate) volatile: bool,
}

/// Mounts `lowers` (topmost first, at least one; at least two without `upper`) with `upper` over
/// them. [`By::Options`] mounts on an empty directory that it makes at `scratch` and removes.
pub(crate) fn overlay(
    lowers: &[BorrowedFd<'_>],
    upper: Option<Upper<'_>>,
    by: By,
    scratch: &Path,
) -> Result<OwnedFd, Errno> {
    if by == By::Options {
        fs::create_dir(scratch).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        let mounted = overlay_by_options(lowers, upper, scratch);
        let _ = fs::remove_dir(scratch);
        return mounted;
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "overlay")?;
    for lower in lowers {
        set_directory(context, "lowerdir+", *lower, by)?;
    }
    for (option, value) in SETTINGS {
        fsconfig_set_string(context, option, value)?;
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
        By::Name | By::Options => fsconfig_set_string(context, key, name(directory)),
    }
}

fn name(directory: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

fn overlay_by_options(
    lowers: &[BorrowedFd<'_>],
    upper: Option<Upper<'_>>,
    scratch: &Path,
) -> Result<OwnedFd, Errno> {
    let lowers: Vec<String> = lowers.iter().map(|lower| name(*lower)).collect();
    let mut options = format!("lowerdir={}", lowers.join(":"));
    let mut flags = MountFlags::empty();
    match upper {
        Some(upper) => {
            options += &format!(
                ",upperdir={},workdir={}",
                name(upper.upper),
                name(upper.work)
            );
            if upper.volatile {
                options += ",volatile";
            }
        }
        None => flags |= MountFlags::RDONLY,
    }
    for (option, value) in SETTINGS {
        options += &format!(",{option}={value}");
    }
    // The kernel takes a page of them.
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    if options.as_bytes_with_nul().len() > 4096 {
        return Err(Errno::TOOBIG);
    }
    mount("overlay", scratch, "overlay", flags, options.as_c_str())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = open_tree(CWD, scratch, flags);
    unmount(scratch, UnmountFlags::DETACH)?;
    root
}
