//! A tar as a tree of files, below a root it cannot leave.

use std::io::{self, Read, Write};
use std::path::Path;

use berth_sys::root::RootFd;

use super::confine::confined;
use super::entry::{Entry, EntryKind, refused};
use super::place::{Attributes, Placer, Rules, Thing};
use super::tar_reader::TarReader;
use crate::layer::pipe::{PipeReader, PipeWriter, pipe};
use crate::{Error, Result};

/// Entries that one archive may have.
const ENTRIES_MAX: u64 = 4_000_000;

/// Gives the mode that something gets, from the mode that it has and whether it is a directory.
pub type ModeChange<'a> = dyn Fn(u32, bool) -> u32 + Sync + 'a;

/// How a tar becomes files.
#[derive(Default)]
pub struct UnpackOptions<'a> {
    /// The owner that everything gets, instead of the one in the archive.
    pub owner: Option<(u32, u32)>,
    /// Changes the modes in the archive.
    pub mode: Option<&'a ModeChange<'a>>,
    /// Refuse to replace a directory by something else, or something else by a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Leave directories that are there as they are, instead of giving them what the archive says.
    pub keep_directories: bool,
    /// Bytes of content that the archive may have at most; without one, what the disk takes.
    pub bytes_max: Option<u64>,
}

/// What was unpacked, packed or copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    pub entries: u64,
    /// Bytes of files' content.
    pub bytes: u64,
}

/// Unpacks an uncompressed tar below `path` inside `root`; the directory is made if it is not there.
/// See [`crate::layer::decompress`] for compressed ones.
///
/// Names in the archive are cleaned; one that climbs out is refused. Links that the archive brings,
/// or that were there, lead at most through the root. Later entries replace earlier ones.
pub fn unpack(
    root: &RootFd,
    path: &Path,
    tar: &mut dyn Read,
    options: &UnpackOptions<'_>,
) -> Result<Placed> {
    let (writer, reader) = pipe();
    let place = || place_all(root, path, reader, options);
    let (placed, fed) = confined(&[root], place, || feed(tar, writer));
    // When the archive could not be read, everything else follows from that.
    fed.and(placed)
}

/// Passes the archive on, as long as somebody wants it.
fn feed(tar: &mut dyn Read, mut writer: PipeWriter) -> Result<()> {
    let mut chunk = vec![0; 256 << 10];
    loop {
        match tar.read(&mut chunk) {
            Ok(0) => {
                let _ = writer.finish();
                return Ok(());
            }
            Ok(n) => {
                if writer.write_all(&chunk[..n]).is_err() {
                    return Ok(());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("cannot read the archive", e)),
        }
    }
}

fn place_all(
    root: &RootFd,
    path: &Path,
    tar: PipeReader,
    options: &UnpackOptions<'_>,
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

fn attributes(entry: &Entry, options: &UnpackOptions<'_>) -> Attributes {
    let mode = u32::from(entry.mode);
    let (uid, gid) = options.owner.unwrap_or((entry.uid, entry.gid));
    Attributes {
        mode: options.mode.map_or(mode, |change| {
            change(mode, entry.kind == EntryKind::Directory)
        }),
        uid,
        gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    }
}
