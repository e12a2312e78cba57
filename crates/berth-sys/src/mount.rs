//! Mounts as descriptors: what rustix lacks of the mount API, and the two-line forms of the rest.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::path::Arg;

use crate::process;

/// How mounts and unmounts travel between copies of a mount (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// What [`set_attributes`] changes. What is not named stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    pub propagation: Option<Propagation>,
    /// Map owners by this user namespace.
    pub idmap: Option<BorrowedFd<'a>>,
}

pub const RDONLY: u64 = 0x1;
pub const NOSUID: u64 = 0x2;
pub const NODEV: u64 = 0x4;
pub const NOEXEC: u64 = 0x8;
/// The field of access time modes: clear it before one is set.
pub const ATIME_MASK: u64 = 0x70;
pub const RELATIME: u64 = 0;
pub const NOATIME: u64 = 0x10;
pub const STRICTATIME: u64 = 0x20;
pub const NODIRATIME: u64 = 0x80;
pub const NOSYMFOLLOW: u64 = 0x20_0000;
const IDMAP: u64 = 0x10_0000;

/// struct mount_attr of linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of a mount, and with `recursive` of all below it (mount_setattr(2)).
pub fn set_attributes(
    mount: impl AsFd,
    recursive: bool,
    change: &Attributes<'_>,
) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: change.set | if change.idmap.is_some() { IDMAP } else { 0 },
        attr_clr: change.clear,
        propagation: change.propagation.map_or(0, Propagation::bits),
        userns_fd: change.idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads an empty string and `size_of` bytes of `attr`, both alive.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets the propagation of every mount that this mount namespace has.
pub fn set_namespace_propagation(propagation: Propagation) -> io::Result<()> {
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let change = Attributes {
        propagation: Some(propagation),
        ..Attributes::default()
    };
    set_attributes(root, true, &change)
}

/// An option of a file system: a word, or a name with a value.
pub type FsOption<'a> = (&'a str, Option<&'a str>);

/// A new file system as a detached mount. `attributes` are `MOUNT_ATTR_*`.
pub fn new_mount(kind: &str, options: &[FsOption<'_>], attributes: u64) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, *name, *value)?,
            None => fsconfig_set_flag(&context, *name)?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// A detached copy of what `path` names below `at`, mounts below it included if `recursive`.
pub fn clone_path(at: impl AsFd, path: impl Arg, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(at, path, flags)?)
}

/// A detached copy of what a handle stands for.
pub fn clone_handle(handle: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(handle, "", flags)?)
}

/// A detached mount of a part of one that is about to go: of what `part` stands for in `whole`.
///
/// # Errors
/// Of open_tree(2) and move_mount(2). `whole` is not to be mounted anywhere afterwards.
pub fn keep_part(whole: impl AsFd, part: impl AsFd) -> io::Result<OwnedFd> {
    match clone_handle(&part, false) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            part_of_attached(whole.as_fd(), part.as_fd())
        }
        kept => kept,
    }
}

/// Before Linux 6.15 the kernel copies parts of mounts only that are attached in the caller's mount namespace: in one that
/// a thread has for as long.
fn part_of_attached(whole: BorrowedFd<'_>, part: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let work = || {
        process::unshare(process::NEW_MOUNT)?;
        set_namespace_propagation(Propagation::Private)?;
        attach_over_root(whole)?;
        clone_handle(part, false)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".to_owned());
        let ended = thread.spawn_scoped(scope, work)?.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// Puts a detached mount where `target` (a handle) stands.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// Puts a detached mount over the root of this mount namespace.
pub fn attach_over_root(mount: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", CWD, "/", flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, openat};

    #[test]
    fn a_part_of_a_mount_outlives_it() {
        for keep in [
            |whole: &OwnedFd, part: &OwnedFd| keep_part(whole, part),
            // As on older kernels.
            |whole: &OwnedFd, part: &OwnedFd| part_of_attached(whole.as_fd(), part.as_fd()),
        ] {
            let whole = new_mount("tmpfs", &[], NOSUID | NODEV).unwrap();
            rustix::fs::mkdirat(&whole, "a", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&whole, "a/b", Mode::RWXU).unwrap();
            let part = openat(&whole, "a", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let kept = keep(&whole, &part).unwrap();
            drop((whole, part));
            let change = Attributes {
                set: RDONLY,
                ..Attributes::default()
            };
            set_attributes(&kept, true, &change).unwrap();
            openat(&kept, "b", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let refused = rustix::fs::mkdirat(&kept, "c", Mode::RWXU);
            assert_eq!(refused.unwrap_err(), rustix::io::Errno::ROFS);
        }
    }

    #[test]
    fn a_detached_mount_can_be_used_and_closed() {
        let options = [("mode", Some("750")), ("size", Some("64k"))];
        let mount = new_mount("tmpfs", &options, NOSUID | NODEV).unwrap();
        let file = openat(
            &mount,
            "x",
            OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::RUSR,
        );
        drop(file.unwrap());
        let change = Attributes {
            set: RDONLY,
            ..Attributes::default()
        };
        set_attributes(&mount, true, &change).unwrap();
        let refused = openat(&mount, "y", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
        assert_eq!(refused.unwrap_err(), rustix::io::Errno::ROFS);
    }
}
