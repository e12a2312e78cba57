//! Walking a tree of files by handles, in the order of the names.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::entry::PATH_MAX;
use super::{own_fd, xattr};

/// Something found in a tree.
pub(crate) struct Found {
    /// Path below where the walk began, without a leading `/`; empty for the beginning itself.
    pub(crate) path: Vec<u8>,
    pub(crate) stat: Stat,
    pub(crate) kind: FoundKind,
    handle: OwnedFd,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundKind {
    File,
    Directory,
    Symlink(Vec<u8>),
    /// Another name of a file found before under this path.
    HardLink(Vec<u8>),
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

impl Found {
    /// A handle (`O_PATH`) of it.
    pub(crate) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == FoundKind::Directory
    }

    /// Whether it may have other names in the tree. Overlayfs' whiteouts share one inode, but are
    /// nothing that has names.
    fn has_names(&self) -> bool {
        self.stat.st_nlink > 1
            && !self.is_directory()
            && !self.is_whiteout()
            && self.kind != FoundKind::Socket
    }

    fn identity(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }

    /// Whether it is overlayfs' mark of a removed name.
    pub(crate) fn is_whiteout(&self) -> bool {
        matches!(
            self.kind,
            FoundKind::Device {
                block: false,
                major: 0,
                minor: 0
            }
        )
    }

    /// The attributes that travel with it.
    pub(crate) fn xattrs(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        xattr::read(&self.handle)
    }

    /// Opens a regular file for reading.
    pub(crate) fn open(&self) -> Result<File, Errno> {
        reopen(&self.handle, OFlags::RDONLY).map(File::from)
    }
}

/// What to do about something found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It was taken; go on, into it if it is a directory.
    Enter,
    /// It was not taken; go on all the same.
    Skip,
    /// It was not taken, and what is below it need not be looked at.
    Pass,
}

/// Opens what a handle is of, which the caller knows to be a regular file or a directory.
fn reopen(handle: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(
        CWD,
        own_fd::path(handle),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Visits what `start` is a handle of and all below it: a directory before what is in it, names in
/// the order of their bytes. What vanishes meanwhile is passed over.
///
/// `visit` gets each thing once; its error ends the walk.
pub(crate) fn walk<E: From<Errno>>(
    start: OwnedFd,
    visit: &mut dyn FnMut(&Found) -> Result<Next, E>,
) -> Result<(), E> {
    let mut links = Links::default();
    let first = describe(start, Vec::new(), &links)?;
    let next = visit(&first)?;
    links.note(&first, next);
    if next == Next::Pass || !first.is_directory() {
        return Ok(());
    }
    let mut levels = vec![Level::open(&first)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let mut path = level.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(&name);
        if path.len() > PATH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match openat(&level.dir, &name[..], flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        let found = match describe(handle, path, &links) {
            Ok(found) => found,
            // Gone between the two; or `/proc/self`, which is nobody to those outside.
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        let next = visit(&found)?;
        links.note(&found, next);
        if next != Next::Pass && found.is_directory() {
            match Level::open(&found) {
                Ok(level) => levels.push(level),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

/// A directory on the way, with the names still to visit, last first.
struct Level {
    dir: OwnedFd,
    path: Vec<u8>,
    names: Vec<Vec<u8>>,
}

impl Level {
    fn open(found: &Found) -> Result<Level, Errno> {
        let dir = reopen(&found.handle, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = names(&dir)?;
        names.reverse();
        Ok(Level {
            dir,
            path: found.path.clone(),
            names,
        })
    }
}

/// The names in a directory, sorted, without `.` and `..`.
pub(crate) fn names(dir: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The names in the directory that a handle (`O_PATH` will do) is of.
pub(crate) fn names_in(handle: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    names(reopen(handle, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// Files of several names, by device and inode, with the name that was taken first.
#[derive(Default)]
struct Links(HashMap<(u64, u64), Vec<u8>>);

impl Links {
    fn note(&mut self, found: &Found, next: Next) {
        if next == Next::Enter && found.has_names() && !matches!(found.kind, FoundKind::HardLink(_))
        {
            self.0.insert(found.identity(), found.path.clone());
        }
    }
}

fn describe(handle: OwnedFd, path: Vec<u8>, links: &Links) -> Result<Found, Errno> {
    let stat = statat(&handle, "", AtFlags::EMPTY_PATH)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => FoundKind::Directory,
        FileType::Symlink => FoundKind::Symlink(readlinkat(&handle, "", Vec::new())?.into_bytes()),
        FileType::RegularFile => FoundKind::File,
        FileType::Fifo => FoundKind::Fifo,
        FileType::Socket => FoundKind::Socket,
        kind => FoundKind::Device {
            block: kind == FileType::BlockDevice,
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        },
    };
    let mut found = Found {
        path,
        stat,
        kind,
        handle,
    };
    if found.has_names()
        && let Some(first) = links.0.get(&found.identity())
    {
        found.kind = FoundKind::HardLink(first.clone());
    }
    Ok(found)
}
