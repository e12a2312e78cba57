//! Making files below a root, one entry after the other: what unpacking and copying have in common.
//!
//! Every directory is found by handle inside the root; the last name of a path is never followed.
//! A file is made under its name with `O_EXCL` after what stood there is gone, so nothing that
//! existed is written through. Owners come before modes (a change of owner takes set-id bits away)
//! and before attributes (it takes capabilities away); times of directories come last of all.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use berth_sys::root::RootFd;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    linkat, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::entry::{Region, components, shown};
use super::remove::remove_tree;
use super::{own_fd, xattr};
use crate::{Error, ErrorKind, Result};

/// What something made here is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    /// `0o7777` at most.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What to make.
pub(crate) enum Thing<'a> {
    Directory,
    /// A regular file; the reader gives what it holds.
    File(&'a mut dyn io::Read),
    /// A regular file with what another one holds: the kernel copies, or shares, the blocks.
    Copy(&'a File),
    /// A regular file of `size` bytes; the reader gives the regions one after the other.
    Sparse {
        content: &'a mut dyn io::Read,
        regions: &'a [Region],
        size: u64,
    },
    Symlink(&'a [u8]),
    /// Another name of what stands under this path (below where things are placed).
    HardLink(&'a [u8]),
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// How things are placed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// A directory never replaces something else, nor something else a directory.
    pub(crate) no_overwrite_dir_non_dir: bool,
    /// Directories that are there stay as they are.
    pub(crate) keep_directories: bool,
}

/// Makes things below a directory of a root.
pub(crate) struct Placer<'a> {
    root: &'a RootFd,
    base: PathBuf,
    rules: Rules,
    /// The directory that was used last.
    recent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories whose times are still to be set, and the bytes of their paths.
    times: Vec<(PathBuf, (i64, u32))>,
    times_bytes: usize,
}

/// Bytes that the paths of directories may have together, whose times come last.
const TIMES_MAX: usize = 64 << 20;

impl<'a> Placer<'a> {
    /// Places things below `base`, which is made if it is not there.
    pub(crate) fn new(root: &'a RootFd, base: &Path, rules: Rules) -> Result<Placer<'a>> {
        root.mkdir_all(base, 0o755)
            .map_err(|e| Error::io(format_args!("cannot make {}", base.display()), e))?;
        Ok(Placer {
            root,
            base: base.to_owned(),
            rules,
            recent: None,
            times: Vec::new(),
            times_bytes: 0,
        })
    }

    /// Makes `thing` under `path`, which is cleaned and must not climb out of the base.
    pub(crate) fn place(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        thing: Thing<'_>,
    ) -> Result<()> {
        let about = |why: &str| Error::invalid(format!("archive entry {}: {why}", shown(path)));
        let names = components(path).map_err(about)?;
        let Some((name, parents)) = names.split_last() else {
            return match thing {
                Thing::Directory => self.place_base(attributes),
                _ => Err(about(
                    "it would replace the root by something that is no directory",
                )),
            };
        };
        let failed = |e| Error::io(format_args!("cannot make {}", shown(path)), e);
        let parent = self.directory(parents).map_err(failed)?;
        let place = Place {
            parent,
            name: OsStr::from_bytes(name),
            path: names.join(&b"/"[..]),
        };
        match thing {
            Thing::Directory => self.directory_at(&place, attributes),
            Thing::HardLink(target) => self.link_at(&place, target),
            thing => {
                self.make_room(&place, false)?;
                place.make(attributes, thing).map_err(failed)
            }
        }
    }

    /// Sets the times of the directories, now that nothing more comes into them. The last word about
    /// a directory counts; one that was replaced later has none.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut done = HashSet::new();
        while let Some((path, mtime)) = self.times.pop() {
            let Ok(handle) = self.root.handle_nofollow(&path) else {
                continue;
            };
            let mut set = || {
                let stat = statat(&handle, "", AtFlags::EMPTY_PATH)?;
                if is_directory(&stat) && done.insert((stat.st_dev, stat.st_ino)) {
                    utimensat(&handle, "", &timestamps(mtime), AtFlags::EMPTY_PATH)?;
                }
                Ok::<_, Errno>(())
            };
            let path = path.display();
            set().map_err(|e| Error::io(format_args!("cannot set the times of {path}"), e))?;
        }
        Ok(())
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.base.join(OsStr::from_bytes(path))
    }

    /// The directory below the base that these names lead to, made where it is missing.
    fn directory(&mut self, names: &[&[u8]]) -> io::Result<OwnedFd> {
        let path = names.join(&b"/"[..]);
        if let Some((recent, handle)) = &self.recent
            && *recent == path
        {
            return handle.try_clone();
        }
        let full = self.full(&path);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let handle = match self.root.open_with(&full, flags, Mode::empty()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.root.mkdir_all(&full, 0o755)?,
            other => other?,
        };
        self.recent = Some((path, handle.try_clone()?));
        Ok(handle)
    }

    fn place_base(&mut self, attributes: &Attributes) -> Result<()> {
        if self.rules.keep_directories {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let set = || {
            let handle = self.root.open_with(&self.base, flags, Mode::empty())?;
            dress(&handle, attributes, false)
        };
        set().map_err(|e| Error::io(format_args!("cannot set up {}", self.base.display()), e))?;
        self.set_times_later(self.base.clone(), attributes)
    }

    fn directory_at(&mut self, place: &Place<'_>, attributes: &Attributes) -> Result<()> {
        let failed =
            |e: io::Error| Error::io(format_args!("cannot make {}", shown(&place.path)), e);
        let there = self.make_room(place, true)?;
        if there && self.rules.keep_directories {
            return Ok(());
        }
        let make = || {
            if !there {
                mkdirat(&place.parent, place.name, Mode::from_raw_mode(0o700))?;
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = openat(&place.parent, place.name, flags, Mode::empty())?;
            dress(&handle, attributes, false)
        };
        make().map_err(failed)?;
        self.set_times_later(self.full(&place.path), attributes)
    }

    fn set_times_later(&mut self, path: PathBuf, attributes: &Attributes) -> Result<()> {
        self.times_bytes += path.as_os_str().len() + 64;
        if self.times_bytes > TIMES_MAX {
            return Err(Error::invalid(format!(
                "there are too many directories, or their paths are too long: at {}",
                shown(path.as_os_str().as_bytes())
            )));
        }
        self.times.push((path, attributes.mtime));
        Ok(())
    }

    fn link_at(&mut self, place: &Place<'_>, target: &[u8]) -> Result<()> {
        let about = |why: &str| {
            let name = shown(&place.path);
            Error::invalid(format!(
                "archive entry {name}: its target {}: {why}",
                shown(target)
            ))
        };
        let names = components(target).map_err(about)?;
        let (last, parents) = names.split_last().ok_or_else(|| about("it is the root"))?;
        let full = self.full(&parents.join(&b"/"[..]));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let last = OsStr::from_bytes(last);
        let find = || {
            let dir = self.root.open_with(&full, flags, Mode::empty())?;
            let stat = statat(&dir, last, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok::<_, io::Error>((dir, stat))
        };
        let (dir, stat) = find().map_err(|e| about(&e.to_string()))?;
        if is_directory(&stat) {
            return Err(about("it is a directory"));
        }
        // A link to itself must not remove what it points at.
        if let Ok(old) = statat(&place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW)
            && (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.make_room(place, false)?;
        match linkat(&dir, last, &place.parent, place.name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // It was in the directory that made room.
            Err(Errno::NOENT) => Err(about("it is not there any more")),
            Err(e) => Err(Error::io(
                format_args!("cannot make {}", shown(&place.path)),
                e,
            )),
        }
    }

    /// Removes what stands in the way. Whether a directory stands there that may stay.
    fn make_room(&mut self, place: &Place<'_>, for_directory: bool) -> Result<bool> {
        let failed = |e: Errno| Error::io(format_args!("cannot replace {}", shown(&place.path)), e);
        let old = match statat(&place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) => is_directory(&old),
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(failed(e)),
        };
        if old && for_directory {
            return Ok(true);
        }
        if self.rules.no_overwrite_dir_non_dir && old != for_directory {
            let (what, with) = match old {
                true => ("directory", "non-directory"),
                false => ("non-directory", "directory"),
            };
            let path = self.full(&place.path);
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "cannot overwrite {what} {path:?} with {with} {:?}",
                    place.name
                ),
            ));
        }
        // It may be, or lead to, the directory that was used last.
        self.recent = None;
        if old {
            remove_tree(&place.parent, place.name).map_err(failed)?;
        } else {
            unlinkat(&place.parent, place.name, AtFlags::empty()).map_err(failed)?;
        }
        Ok(false)
    }
}

/// A name in a directory.
struct Place<'a> {
    parent: OwnedFd,
    name: &'a OsStr,
    /// From the base, for messages and times.
    path: Vec<u8>,
}

impl Place<'_> {
    /// Makes anything but a directory or another name, where nothing stands.
    fn make(&self, attributes: &Attributes, thing: Thing<'_>) -> io::Result<()> {
        let node = |kind, device| {
            mknodat(
                &self.parent,
                self.name,
                kind,
                Mode::from_raw_mode(0o600),
                device,
            )
        };
        match thing {
            Thing::File(content) => {
                let mut file = self.create()?;
                pump(content, &mut file)?;
                return dress_file(&file, attributes);
            }
            Thing::Copy(mut source) => {
                let mut file = self.create()?;
                io::copy(&mut source, &mut file)?;
                return dress_file(&file, attributes);
            }
            Thing::Sparse {
                content,
                regions,
                size,
            } => {
                let mut file = self.create()?;
                write_regions(&mut file, content, regions)?;
                file.set_len(size)?;
                return dress_file(&file, attributes);
            }
            Thing::Symlink(target) => symlinkat(target, &self.parent, self.name)?,
            Thing::Device {
                block,
                major,
                minor,
            } => {
                let kind = if block {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                };
                node(kind, rustix::fs::makedev(major, minor))?;
            }
            Thing::Fifo => node(FileType::Fifo, 0)?,
            Thing::Directory | Thing::HardLink(_) => {}
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(&self.parent, self.name, flags, Mode::empty())?;
        let stat = statat(&handle, "", AtFlags::EMPTY_PATH)?;
        let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        dress(&handle, attributes, link)?;
        utimensat(
            &handle,
            "",
            &timestamps(attributes.mtime),
            AtFlags::EMPTY_PATH,
        )?;
        Ok(())
    }

    fn create(&self) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.parent, self.name, flags, Mode::from_raw_mode(0o600))?;
        Ok(File::from(fd))
    }
}

/// Copies in large pieces.
pub(crate) fn pump(content: &mut dyn io::Read, out: &mut dyn Write) -> io::Result<u64> {
    // Most files are small: they should not pay for a large buffer.
    let mut small = [0; 8 << 10];
    let mut copied = 0;
    loop {
        match content.read(&mut small) {
            Ok(0) => return Ok(copied),
            Ok(n) => {
                out.write_all(&small[..n])?;
                copied += n as u64;
                if n == small.len() {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut large = vec![0; 256 << 10];
    loop {
        match content.read(&mut large) {
            Ok(0) => return Ok(copied),
            Ok(n) => {
                out.write_all(&large[..n])?;
                copied += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Writes the regions of a sparse file where they belong.
pub(crate) fn write_regions(
    file: &mut File,
    content: &mut dyn io::Read,
    regions: &[Region],
) -> io::Result<()> {
    let begin = file.stream_position()?;
    for region in regions {
        file.seek(SeekFrom::Start(begin + region.offset))?;
        let copied = pump(&mut io::Read::take(&mut *content, region.length), file)?;
        if copied != region.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    file.flush()
}

fn dress_file(file: &File, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode & 0o7777))?;
    set_xattrs(file, attributes)?;
    rustix::fs::futimens(file, &timestamps(attributes.mtime))?;
    Ok(())
}

/// Owner, mode and attributes of what a handle is of; links have no mode.
fn dress(handle: &OwnedFd, attributes: &Attributes, link: bool) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    chownat(handle, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if !link {
        // There is no fchmod for O_PATH before Linux 6.6; this leads to the handle's own inode.
        let path = own_fd::path(handle);
        let mode = Mode::from_raw_mode(attributes.mode & 0o7777);
        chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())?;
    }
    set_xattrs(handle, attributes)
}

/// What a file system does not have, or does not allow here (`user.` on a link, `trusted.`), archives
/// bring in vain; so it is with Docker.
fn set_xattrs(handle: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    for (name, value) in &attributes.xattrs {
        match xattr::set(&handle, name, value) {
            Ok(_) | Err(Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let mtime = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: mtime,
        last_modification: mtime,
    }
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
