//! Room on the disk that is kept back, so that on a full one things can still be removed: whoever
//! removes something writes that down first.
//!
//! ```text
//! <root>/reserve          a file of 4 MiB
//! <root>/reserve.files/   32 empty files: room for names where the inodes are gone
//! ```
//!
//! It is given away when a record finds no room or a removal begins on a disk that is full, and taken
//! again once there is twice as much. Meanwhile nothing new is begun.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;

use crate::{Error, ErrorKind, Result};

/// Bytes that are kept back.
const BYTES: u64 = 4 << 20;
/// Files that are kept back.
const FILES: u64 = 32;
/// With less than this free, a removal may not get through by itself.
const LOW: Room = Room {
    bytes: 1 << 20,
    files: 16,
};

/// What is free on a disk.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    files: u64,
}

impl Room {
    fn of(path: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(path).ok()?;
        // File systems that make inodes as they go count none.
        let files = match found.f_files {
            0 => u64::MAX,
            _ => found.f_ffree,
        };
        Some(Self {
            bytes: found.f_bfree.saturating_mul(found.f_frsize),
            files,
        })
    }

    fn has(self, wanted: Room) -> bool {
        self.bytes >= wanted.bytes && self.files >= wanted.files
    }
}

/// The room of one root.
#[derive(Debug)]
pub(crate) struct Reserve {
    root: PathBuf,
    held: Mutex<bool>,
}

impl Reserve {
    /// Takes it, where there is room for it.
    pub(crate) fn open(root: &Path) -> Self {
        let reserve = Self {
            root: root.to_owned(),
            held: Mutex::new(root.join("reserve").exists()),
        };
        reserve.restore();
        reserve
    }

    fn held(&self) -> MutexGuard<'_, bool> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it away; false where it is away already.
    pub(crate) fn give(&self) -> bool {
        let mut held = self.held();
        if !std::mem::take(&mut *held) {
            return false;
        }
        tracing::warn!(root = %self.root.display(), "the disk is full: room that was kept for removals is used now");
        self.clear();
        true
    }

    /// Before a removal: gives it away where the disk is full.
    pub(crate) fn make_way(&self) {
        if Room::of(&self.root).is_some_and(|room| !room.has(LOW)) {
            self.give();
        }
    }

    /// Before something new: refused where hardly more is left than what is kept for removals.
    pub(crate) fn admit(&self) -> Result<()> {
        self.restore();
        let room = Room::of(&self.root);
        let least = match *self.held() {
            true => LOW,
            false => Room {
                bytes: BYTES,
                files: FILES,
            },
        };
        if room.is_none_or(|room| room.has(least)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NoSpace,
            format!(
                "no space left on device: what is left of {} is kept for removals; remove something (berth system prune) or make room",
                self.root.display()
            ),
        ))
    }

    /// Takes it again where there is room enough by now.
    pub(crate) fn restore(&self) {
        let mut held = self.held();
        let plenty = Room {
            bytes: BYTES * 2,
            files: FILES * 2,
        };
        if *held || !Room::of(&self.root).is_some_and(|room| room.has(plenty)) {
            return;
        }
        match self.make() {
            Ok(()) => *held = true,
            Err(error) => {
                tracing::debug!(%error, "no room is kept for removals");
                self.clear();
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        let files = self.root.join("reserve.files");
        fs::create_dir_all(&files)?;
        for number in 0..FILES {
            fs::File::create(files.join(number.to_string()))?;
        }
        let file = fs::File::create(self.root.join("reserve"))?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
            Ok(()) => Ok(()),
            // A file system that cannot promise room is given bytes.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = io::Read::take(io::repeat(0), BYTES);
                io::copy(&mut { zeros }, &mut { file }).map(drop)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn clear(&self) {
        let gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, root = %self.root.display(), "room that was kept for removals stays taken");
            }
            _ => {}
        };
        gone(fs::remove_file(self.root.join("reserve")));
        gone(fs::remove_dir_all(self.root.join("reserve.files")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path());
        let file = dir.path().join("reserve");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&file).unwrap());
        assert!(blocks * 512 >= BYTES);
        // There is room: nothing is given away, and all is let in.
        reserve.make_way();
        reserve.admit().unwrap();
        assert!(file.exists());
        assert!(reserve.give() && !reserve.give());
        assert!(!file.exists() && !dir.path().join("reserve.files").exists());
        reserve.admit().unwrap();
        assert!(file.exists(), "taken again");
        // The next engine finds it.
        assert!(Reserve::open(dir.path()).give());
    }
}
