//! What a volume takes of the disk.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

/// Directories that are open at once while a volume is measured.
const DEPTH_MAX: usize = 4096;

/// Bytes on disk of all files below `dir`, a file of many names once. What containers write belongs
/// to them: no link is followed, and what vanishes meanwhile does not count.
pub(super) fn size(dir: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = openat(CWD, dir, flags, Mode::empty()) else {
        return 0;
    };
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut pending = vec![Level::of(root)];
    while let Some(level) = pending.last_mut() {
        let Some(name) = level.names.pop() else {
            pending.pop();
            continue;
        };
        let Ok(stat) = statat(&level.dir, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)) {
            // st_blocks counts 512 bytes, whatever the file system's blocks are.
            total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && pending.len() < DEPTH_MAX
            && let Some(level) = pending.last()
            && let Ok(below) = openat(&level.dir, &name, flags, Mode::empty())
        {
            pending.push(Level::of(below));
        }
    }
    total
}

/// A directory with the names that are still to be looked at.
struct Level {
    dir: OwnedFd,
    names: Vec<CString>,
}

impl Level {
    fn of(dir: OwnedFd) -> Self {
        let names = Dir::read_from(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_owned())
            .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
            .collect();
        Self { dir, names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_and_names_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        let empty = size(&volume);
        std::fs::write(dir.path().join("outside"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("../outside", volume.join("link")).unwrap();
        std::os::unix::fs::symlink("/", volume.join("root")).unwrap();
        std::fs::write(volume.join("a/b/file"), vec![1; 256 << 10]).unwrap();
        std::fs::hard_link(volume.join("a/b/file"), volume.join("again")).unwrap();
        let full = size(&volume) - empty;
        assert!((256 << 10..512 << 10).contains(&full), "{full}");
        assert_eq!(size(&dir.path().join("missing")), 0);
    }
}
