//! A tree of files copied from one root to another.

use std::path::Path;

use berth_sys::root::RootFd;
use serde::{Deserialize, Serialize};

use super::pack::Failure;
use super::place::{Attributes, Placer, Rules, Thing};
use super::unpack::Placed;
use super::walk::{Found, FoundKind, Next, walk};
use crate::{Error, Result};

/// How a tree is copied.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CopyOptions {
    /// When the source path ends in a symbolic link, copy what it points at.
    pub follow: bool,
    /// The owner that everything gets, instead of its own.
    pub owner: Option<(u32, u32)>,
    /// Refuse to replace a directory by something else, or something else by a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Leave directories that are there as they are.
    pub keep_directories: bool,
}

/// See [`super::Extractor::copy`].
pub(super) fn copy_all(
    source: &RootFd,
    from: &Path,
    target: &RootFd,
    to: &Path,
    options: &CopyOptions,
) -> Result<Placed> {
    let failed = |e| Error::io(format_args!("cannot copy {}", from.display()), e);
    let start = if options.follow {
        source.handle(from)
    } else {
        source.handle_nofollow(from)
    }
    .map_err(failed)?;
    let stat = rustix::fs::fstat(&start).map_err(|e| failed(e.into()))?;
    let directory =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    // A directory is placed as its own root; something else, under its new name.
    let (base, name) = if directory {
        (to, None)
    } else {
        let name = to.file_name().ok_or_else(|| {
            Error::invalid(format!("cannot copy a file to {}: no name", to.display()))
        })?;
        (to.parent().unwrap_or(Path::new("")), Some(name))
    };
    let rules = Rules {
        no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
        keep_directories: options.keep_directories,
    };
    let mut placer = Placer::new(target, base, rules)?;
    let mut placed = Placed::default();
    walk(start, &mut |found| {
        use std::os::unix::ffi::OsStrExt;
        let path = match name {
            Some(name) => name.as_bytes(),
            None => &found.path,
        };
        take(&mut placer, found, path, options, &mut placed)
    })
    .map_err(|e| match e {
        Stop::Walk(Failure::Io(e)) => failed(e),
        Stop::Walk(Failure::Found(text, e)) => Error::io(text, e),
        Stop::Place(e) => e,
    })?;
    placer.finish()?;
    Ok(placed)
}

/// Why copying ended.
enum Stop {
    Walk(Failure),
    Place(Error),
}

impl From<rustix::io::Errno> for Stop {
    fn from(e: rustix::io::Errno) -> Self {
        Stop::Walk(e.into())
    }
}

fn take(
    placer: &mut Placer<'_>,
    found: &Found,
    path: &[u8],
    options: &CopyOptions,
    placed: &mut Placed,
) -> std::result::Result<Next, Stop> {
    let attributes = attributes(found, options)?;
    let file;
    let thing = match &found.kind {
        FoundKind::Socket => return Ok(Next::Skip),
        FoundKind::Directory => Thing::Directory,
        FoundKind::File => {
            file = found.open()?;
            placed.bytes += found.stat.st_size as u64;
            Thing::Copy(&file)
        }
        FoundKind::Symlink(target) => Thing::Symlink(target),
        FoundKind::HardLink(first) => Thing::HardLink(first),
        FoundKind::Device {
            block,
            major,
            minor,
        } => Thing::Device {
            block: *block,
            major: *major,
            minor: *minor,
        },
        FoundKind::Fifo => Thing::Fifo,
    };
    placer
        .place(path, &attributes, thing)
        .map_err(Stop::Place)?;
    placed.entries += 1;
    Ok(Next::Enter)
}

fn attributes(
    found: &Found,
    options: &CopyOptions,
) -> std::result::Result<Attributes, rustix::io::Errno> {
    let (uid, gid) = options
        .owner
        .unwrap_or((found.stat.st_uid, found.stat.st_gid));
    Ok(Attributes {
        mode: found.stat.st_mode & 0o7777,
        uid,
        gid,
        mtime: (found.stat.st_mtime, found.stat.st_mtime_nsec as u32),
        xattrs: found.xattrs()?.into_iter().collect(),
    })
}
