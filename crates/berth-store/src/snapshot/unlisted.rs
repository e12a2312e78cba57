//! Directories that a layer has things in but does not list.
//!
//! A layer says nothing of the attributes of such a directory, so those of the layers below are
//! right; overlayfs would take the made-up ones of the layer. For the few layers that are made like
//! this, a directory tree with the right attributes, in memory, goes on top of the stack.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::stack::Stack;
use crate::layer::Mounted;
use crate::{Error, Result};

/// A tree that gives the directories which the stack's layers do not list the attributes that the
/// layers below give them; `None` when there is nothing to repair.
pub(super) fn repair(stack: &Stack) -> Result<Option<OwnedFd>> {
    let mut paths = BTreeSet::new();
    for layer in &stack.layers {
        for path in &layer.stacking.unlisted {
            // With each directory come those above it.
            paths.extend(
                path.match_indices('/')
                    .map(|(at, _)| &path[..at])
                    .chain(std::iter::once(path.as_str()))
                    .filter(|path| !path.is_empty()),
            );
        }
    }
    let failed = |e: Errno| Error::io("cannot prepare directories that no layer lists", e);
    let mut found = Vec::new();
    let mut repairs = false;
    // In order, so that a directory comes before what is in it.
    for path in paths {
        let seen = look_down(stack, path).map_err(failed)?;
        if let Some(seen) = seen {
            repairs |= seen.differs;
            found.push((path, seen));
        }
    }
    if !repairs {
        return Ok(None);
    }
    build(&found).map(Some).map_err(failed)
}

/// What the stack should show of a directory.
struct Seen {
    stat: Stat,
    /// Overlayfs would show something else.
    differs: bool,
}

/// Goes down the layers to the first that lists the directory `path`. `None` when it is no
/// directory at all.
fn look_down(stack: &Stack, path: &str) -> std::result::Result<Option<Seen>, Errno> {
    let mut topmost: Option<Stat> = None;
    for layer in &stack.layers {
        let stat = match stat_in(layer, path) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(e),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            // A whiteout or a file: nothing further down is seen.
            break;
        }
        let listed = !layer.stacking.unlisted.iter().any(|p| p == path);
        if listed {
            return Ok(Some(Seen {
                stat,
                differs: topmost.is_some(),
            }));
        }
        topmost.get_or_insert(stat);
    }
    Ok(topmost.map(|stat| Seen {
        stat,
        differs: false,
    }))
}

fn stat_in(layer: &Mounted, path: &str) -> std::result::Result<Stat, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = rustix::fs::openat2(layer.fd(), path, flags, Mode::empty(), resolve)?;
    rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)
}

/// A detached tmpfs with these directories.
fn build(found: &[(&str, Seen)]) -> std::result::Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "0755")?;
    fsconfig_set_string(&context, "size", "4m")?;
    fsconfig_create(&context)?;
    let root = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    let mut made = Vec::with_capacity(found.len());
    for (path, seen) in found {
        match rustix::fs::mkdirat(&root, *path, Mode::from_raw_mode(0o700)) {
            // Its parent is no directory of the stack's.
            Err(Errno::NOENT) => continue,
            other => other?,
        }
        made.push((*path, seen));
    }
    for (path, seen) in made.into_iter().rev() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&root, path, flags, Mode::empty())?;
        let stat = &seen.stat;
        rustix::fs::fchown(
            &dir,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
        )?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        let mtime = Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        };
        rustix::fs::futimens(
            &dir,
            &Timestamps {
                last_access: mtime,
                last_modification: mtime,
            },
        )?;
    }
    Ok(root)
}
