//! One directory of a cgroup file system, held open; every file is reached through it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};

use super::{Error, Result};

/// Bytes read of one file at most, about.
const READ_MAX: usize = 4 << 20;
/// Bytes that are read at once.
const PAGE: usize = 4 << 10;
/// Cgroups that may stand below one container's.
const SUBTREE_MAX: usize = 65_536;
/// How long `rmdir` is tried while the kernel still lets go of dead processes.
const REMOVE_TRIES: u32 = 60;

/// A cgroup directory.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    /// For messages.
    name: String,
}

impl Dir {
    /// Opens a mount point of a cgroup file system; `None` if it is hidden under another mount.
    pub(super) fn mount_point(path: &str) -> Option<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
        let magic = rustix::fs::fstatfs(&fd).ok()?.f_type as u64;
        // CGROUP_SUPER_MAGIC and CGROUP2_SUPER_MAGIC.
        matches!(magic, 0x0027_e0eb | 0x6367_7270).then(|| Dir {
            fd,
            name: path.to_owned(),
        })
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn full(&self, file: &str) -> String {
        format!("{}/{file}", self.name)
    }

    fn error(&self, verb: &'static str, file: &str, source: impl Into<io::Error>) -> Error {
        Error::File {
            verb,
            file: self.full(file),
            source: source.into(),
        }
    }

    fn open_at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        Ok(rustix::fs::openat2(
            &self.fd,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?)
    }

    /// The directory `path` below this one; `None` if there is none.
    pub(super) fn open_dir(&self, path: &str) -> Result<Option<Dir>> {
        match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(Dir {
                fd,
                name: self.full(path),
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.error("open", path, e)),
        }
    }

    /// Makes the directory `path`; false if it was there.
    pub(super) fn make_dir(&self, path: &str) -> Result<bool> {
        match rustix::fs::mkdirat(&self.fd, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(e) => Err(self.error("make", path, e)),
        }
    }

    pub(super) fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.fd, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    pub(super) fn open_write(&self, file: &str) -> Result<OwnedFd> {
        self.open_at(file, OFlags::WRONLY)
            .map_err(|e| self.error("open", file, e))
    }

    pub(super) fn open_read(&self, file: &str) -> Result<OwnedFd> {
        self.open_at(file, OFlags::RDONLY)
            .map_err(|e| self.error("open", file, e))
    }

    /// Writes a value in one go.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<()> {
        self.write_raw(file, value)
            .map_err(|e| self.error("write", file, e))
    }

    /// As [`Dir::write`], with the kernel's bare answer.
    pub(super) fn write_raw(&self, file: &str, value: &str) -> io::Result<()> {
        let fd = self.open_at(file, OFlags::WRONLY)?;
        File::from(fd).write_all(value.as_bytes())
    }

    /// The whole text of a file.
    pub(super) fn read(&self, file: &str) -> Result<String> {
        self.read_raw(file).map_err(|e| self.error("read", file, e))
    }

    fn read_raw(&self, file: &str) -> io::Result<String> {
        let fd = self.open_at(file, OFlags::RDONLY)?;
        let mut text = Vec::new();
        while text.len() < READ_MAX {
            // Most files are shorter: one read for the text, one for its end.
            text.reserve(PAGE);
            match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut text)) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        String::from_utf8(text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// The text of a file that this kernel may not have.
    pub(super) fn read_if_there(&self, file: &str) -> Option<String> {
        self.read_raw(file).ok()
    }

    /// A file that holds one number; `max` and v1's "no limit" are `None`.
    pub(super) fn number(&self, file: &str) -> Option<u64> {
        self.read_if_there(file)?.trim().parse().ok()
    }

    /// A line `key value` of a flat keyed file.
    pub(super) fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        let text = self.read_if_there(file)?;
        super::stats::keyed(&text, key)
    }

    /// The processes of this cgroup alone, in this process's PID namespace.
    pub(super) fn own_pids(&self) -> Result<Vec<i32>> {
        let text = self.read("cgroup.procs")?;
        Ok(text
            .lines()
            .filter_map(|l| l.parse().ok())
            .filter(|&pid| pid != 0)
            .collect())
    }

    /// The processes of this cgroup and of all below it.
    pub(super) fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = self.own_pids()?;
        for child in self.descendants()? {
            // One that went away meanwhile has none.
            if let Ok(Some(dir)) = self.open_dir(&child) {
                pids.extend(dir.own_pids().unwrap_or_default());
            }
        }
        Ok(pids)
    }

    /// The paths of all cgroups below, deepest first.
    pub(super) fn descendants(&self) -> Result<Vec<String>> {
        let mut found: Vec<String> = Vec::new();
        let mut next = 0;
        self.children(".", "", &mut found)?;
        while next < found.len() && found.len() < SUBTREE_MAX {
            let path = found[next].clone();
            self.children(&path, &format!("{path}/"), &mut found)?;
            next += 1;
        }
        found.reverse();
        Ok(found)
    }

    fn children(&self, path: &str, prefix: &str, found: &mut Vec<String>) -> Result<()> {
        let Ok(fd) = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY) else {
            return Ok(());
        };
        let entries = rustix::fs::Dir::new(fd).map_err(|e| self.error("list", path, e))?;
        for entry in entries {
            let Ok(entry) = entry else { return Ok(()) };
            if entry.file_type() != FileType::Directory {
                continue;
            }
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => found.push(format!("{prefix}{name}")),
            }
        }
        Ok(())
    }

    /// Removes the cgroup `path` below this one, with all below it. Whatever is still in it must
    /// be dying: the kernel is given some seconds to let go.
    pub(super) fn remove_tree(&self, path: &str) -> Result<()> {
        let Some(dir) = self.open_dir(path)? else {
            return Ok(());
        };
        for child in dir.descendants()? {
            dir.remove_dir(&child)?;
        }
        drop(dir);
        self.remove_dir(path)
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        let mut pause = Duration::from_micros(200);
        let mut tries = 0;
        loop {
            match rustix::fs::unlinkat(&self.fd, path, AtFlags::REMOVEDIR) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
                Err(rustix::io::Errno::BUSY) if tries < REMOVE_TRIES => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(100));
                    tries += 1;
                }
                Err(e) => return Err(self.error("remove", path, e)),
            }
        }
    }

    /// One try to remove an empty cgroup.
    pub(super) fn remove_if_empty(&self, path: &str) {
        // What is in use stays; that is the point.
        let _ = rustix::fs::unlinkat(&self.fd, path, AtFlags::REMOVEDIR);
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
