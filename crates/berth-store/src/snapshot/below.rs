//! Looking at what the layers have under a name of the snapshot.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use berth_sys::root::RootFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

/// The mounted layers of a snapshot, without what was written over them.
pub(super) struct Below<'a>(pub(super) &'a RootFd);

impl Below<'_> {
    /// What stands under a path; no link is followed.
    pub(super) fn stat(&self, path: &[u8]) -> Result<Option<Stat>, Errno> {
        match self.open(path) {
            Ok(handle) => statat(&handle, "", AtFlags::EMPTY_PATH).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A handle of it.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        openat2(
            self.0,
            OsStr::from_bytes(path),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }
}

/// Whether Docker would call it a change. Sizes and times of directories say nothing.
pub(super) fn differs(new: &Stat, old: &Stat) -> bool {
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

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
