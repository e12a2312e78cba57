//! What differs between a snapshot and the layers below it, in Docker's terms.
//!
//! - A thing under a name that the layers do not have is added, with all below it.
//! - A name of the layers that is gone is deleted; what was below it is not told of.
//! - A file whose mode, owner, device, size or modification time differs is modified; a directory
//!   whose mode or owner does, or with any change below it (the root excepted).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use berth_sys::root::RootFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

use super::commit::is_opaque;
use super::{Change, ChangeKind};
use crate::tree::walk::{Found, Next, names_in, walk};
use crate::{Error, Result};

/// Compares the upper directory with the mounted layers.
pub(super) fn diff(upper: &Path, layers: &RootFd) -> Result<Vec<Change>> {
    let failed = |e: std::io::Error| Error::io("cannot compare the snapshot", e);
    let upper = RootFd::open(upper).map_err(failed)?;
    let mut differ = Differ {
        layers,
        changes: Vec::new(),
    };
    walk(upper.into_fd(), &mut |found| {
        differ.visit(found)?;
        Ok::<_, Errno>(Next::Enter)
    })
    .map_err(|e| failed(e.into()))?;
    Ok(differ.finish())
}

struct Differ<'a> {
    layers: &'a RootFd,
    changes: Vec<(Vec<u8>, ChangeKind)>,
}

impl Differ<'_> {
    fn visit(&mut self, found: &Found) -> std::result::Result<(), Errno> {
        let below = stat(self.layers, &found.path)?;
        if found.is_whiteout() {
            if below.is_some() {
                self.changes.push((found.path.clone(), ChangeKind::Deleted));
            }
            return Ok(());
        }
        match &below {
            None => self.changes.push((found.path.clone(), ChangeKind::Added)),
            Some(below) if !found.path.is_empty() && differs(&found.stat, below) => {
                self.changes
                    .push((found.path.clone(), ChangeKind::Modified));
            }
            Some(_) => {}
        }
        if found.is_directory() && below.as_ref().is_some_and(is_directory) && is_opaque(found)? {
            self.hidden(found)?;
        }
        Ok(())
    }

    /// An opaque directory deletes what the layers have in it and it has not.
    fn hidden(&mut self, found: &Found) -> std::result::Result<(), Errno> {
        let here = names_in(found.handle())?;
        let handle = open(self.layers, &found.path)?;
        for name in names_in(&handle)? {
            if here.binary_search(&name).is_err() {
                let mut path = found.path.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(name);
                self.changes.push((path, ChangeKind::Deleted));
            }
        }
        Ok(())
    }

    /// Sorted, with the directories on the way to each change.
    fn finish(self) -> Vec<Change> {
        let mut all: std::collections::BTreeMap<Vec<u8>, ChangeKind> = Default::default();
        for (path, kind) in self.changes {
            for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
                all.entry(path[..at].to_vec())
                    .or_insert(ChangeKind::Modified);
            }
            all.insert(path, kind);
        }
        all.into_iter()
            .map(|(path, kind)| Change {
                path: format!("/{}", String::from_utf8_lossy(&path)),
                kind,
            })
            .collect()
    }
}

fn differs(new: &Stat, old: &Stat) -> bool {
    let mut differs = new.st_mode != old.st_mode
        || new.st_uid != old.st_uid
        || new.st_gid != old.st_gid
        || new.st_rdev != old.st_rdev;
    if !is_directory(new) {
        differs |= new.st_size != old.st_size
            || (new.st_mtime, new.st_mtime_nsec) != (old.st_mtime, old.st_mtime_nsec);
    }
    differs
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// What the layers have under a path, no link followed.
fn stat(layers: &RootFd, path: &[u8]) -> std::result::Result<Option<Stat>, Errno> {
    match open(layers, path) {
        Ok(handle) => statat(&handle, "", AtFlags::EMPTY_PATH).map(Some),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

fn open(layers: &RootFd, path: &[u8]) -> std::result::Result<std::os::fd::OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    openat2(
        layers,
        OsStr::from_bytes(path),
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}
