//! A tar as a tree of files, below a root it cannot leave.

use std::io::Read;
use std::path::Path;

use berth_sys::root::RootFd;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, EntryKind, refused};
use super::place::{Attributes, Placer, Rules, Thing};
use super::tar_reader::TarReader;
use crate::Result;

/// Entries that one archive may have.
const ENTRIES_MAX: u64 = 4_000_000;

/// How a tar becomes files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UnpackOptions {
    /// The owner that everything gets, instead of the one in the archive.
    pub owner: Option<(u32, u32)>,
    /// Refuse to replace a directory by something else, or something else by a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Leave directories that are there as they are, instead of giving them what the archive says.
    pub keep_directories: bool,
    /// Bytes of content that the archive may have at most; without one, what the disk takes.
    pub bytes_max: Option<u64>,
}

/// What was unpacked, packed or copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub entries: u64,
    /// Bytes of files' content.
    pub bytes: u64,
}

/// See [`super::Extractor::unpack`].
pub(super) fn place_all(
    root: &RootFd,
    path: &Path,
    tar: impl Read,
    options: &UnpackOptions,
) -> Result<Placed> {
    let rules = Rules {
        no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
        keep_directories: options.keep_directories,
    };
    let mut placer = Placer::new(root, path, rules)?;
    let mut reader = TarReader::new(tar);
    let mut placed = Placed::default();
    while let Some(entry) = reader.next()? {
        placed.entries += 1;
        placed.bytes += entry.stored;
        if placed.entries > ENTRIES_MAX {
            return Err(refused(&entry.path, "the archive has too many entries"));
        }
        if options.bytes_max.is_some_and(|max| placed.bytes > max) {
            return Err(refused(&entry.path, "the archive is too large"));
        }
        let attributes = attributes(&entry, options);
        let (major, minor) = entry.device;
        let mut content = reader.content();
        let thing = match entry.kind {
            EntryKind::Directory => Thing::Directory,
            EntryKind::File => match &entry.sparse {
                None => Thing::File(&mut content),
                Some(regions) => Thing::Sparse {
                    content: &mut content,
                    regions,
                    size: entry.size,
                },
            },
            EntryKind::Symlink => Thing::Symlink(&entry.link),
            EntryKind::HardLink => Thing::HardLink(&entry.link),
            EntryKind::Char | EntryKind::Block => Thing::Device {
                block: entry.kind == EntryKind::Block,
                major,
                minor,
            },
            EntryKind::Fifo => Thing::Fifo,
        };
        placer.place(&entry.path, &attributes, thing)?;
    }
    reader.drain()?;
    placer.finish()?;
    Ok(placed)
}

fn attributes(entry: &Entry, options: &UnpackOptions) -> Attributes {
    let (uid, gid) = options.owner.unwrap_or((entry.uid, entry.gid));
    Attributes {
        mode: entry.mode.into(),
        uid,
        gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    }
}
