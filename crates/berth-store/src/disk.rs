//! What files take of the disk.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};

/// Directories that are open at once while a tree is measured.
const DEPTH_MAX: usize = 4096;

/// Bytes that the file or tree at `path` takes (allocated, not apparent), what has several names once,
/// as `du` has it. Containers may write there meanwhile: no link is followed, and what vanishes or
/// cannot be looked at counts nothing.
pub fn bytes_on_disk(path: &Path) -> u64 {
    measure(path, true)
}

/// Bytes that the file, or the directory without what is in it, takes.
pub(crate) fn own_bytes(path: &Path) -> u64 {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

/// As [`bytes_on_disk`], without what the directories themselves take.
pub(crate) fn bytes_of_files(path: &Path) -> u64 {
    measure(path, false)
}

fn measure(path: &Path, directories: bool) -> u64 {
    let Ok(stat) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else {
        return 0;
    };
    let mut tally = Tally {
        directories,
        seen: HashSet::new(),
        bytes: 0,
    };
    tally.add(&stat);
    let mut pending: Vec<Level> = Vec::new();
    if is_directory(&stat)
        && let Ok(root) = openat(CWD, path, Level::FLAGS, Mode::empty())
    {
        pending.push(Level::of(root));
    }
    while let Some(level) = pending.last_mut() {
        let Some(name) = level.names.pop() else {
            pending.pop();
            continue;
        };
        let Ok(stat) = statat(&level.dir, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        tally.add(&stat);
        if is_directory(&stat)
            && pending.len() < DEPTH_MAX
            && let Some(level) = pending.last()
            && let Ok(below) = openat(&level.dir, &name, Level::FLAGS, Mode::empty())
        {
            pending.push(Level::of(below));
        }
    }
    tally.bytes
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

struct Tally {
    directories: bool,
    /// What has several names, by device and inode.
    seen: HashSet<(u64, u64)>,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, stat: &Stat) {
        let counts = match is_directory(stat) {
            true => self.directories,
            false => stat.st_nlink == 1 || self.seen.insert((stat.st_dev, stat.st_ino)),
        };
        if counts {
            // In units of 512 bytes, whatever the file system's blocks are.
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }
}

/// A directory with the names that are still to be looked at.
struct Level {
    dir: OwnedFd,
    names: Vec<CString>,
}

impl Level {
    const FLAGS: OFlags = OFlags::RDONLY
        .union(OFlags::DIRECTORY)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);

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
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        let empty = bytes_on_disk(&tree);
        std::fs::write(dir.path().join("outside"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("../outside", tree.join("link")).unwrap();
        std::os::unix::fs::symlink("/", tree.join("root")).unwrap();
        std::fs::write(tree.join("a/b/file"), vec![1; 256 << 10]).unwrap();
        std::fs::hard_link(tree.join("a/b/file"), tree.join("again")).unwrap();
        let full = bytes_on_disk(&tree) - empty;
        assert!((256 << 10..512 << 10).contains(&full), "{full}");
        assert!(bytes_of_files(&tree) <= full);
        assert_eq!(bytes_on_disk(&dir.path().join("missing")), 0);
        assert_eq!(
            bytes_on_disk(&tree.join("again")),
            bytes_of_files(&tree.join("again"))
        );
    }
}
