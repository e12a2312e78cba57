//! The directory form of a layer: what its index would show, as files on the store's file system.
//!
//! It is made from the same tar by the same rules as the index, so that both forms show the same. Names come from a
//! tree in which nothing is a path, and go into directories made a moment before: no link is ever
//! followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use berth_sys::root::RootFd;

use super::entries::{Builder, Limits, OPAQUE_XATTR};
use crate::erofs::tree::{Data, Id, Kind, ROOT, Tree};
use crate::room::Room;
use crate::tree::Extractor;
use crate::tree::place::{Attributes, Placer, Rules, Thing};
use crate::tree::tar_reader::TarReader;
use crate::tree::xattr;
use crate::{Error, Result};

const BLOCK: u64 = 512;

/// Writes `fs/` in `dir`, where the files' bytes are in `layer.tar` (and `layer.data`); `tree` is what
/// they show. The extractor reads it once more, so it is let go of before.
pub(super) fn write(extractor: &Extractor, dir: &Path, tree: Tree) -> Result<()> {
    let opaque = opaque(&tree);
    drop(tree);
    let path = dir.join("fs");
    let failed = |e: io::Error| Error::io(format_args!("cannot write {}", path.display()), e);
    std::fs::create_dir(&path).map_err(failed)?;
    let root = RootFd::open(&path).map_err(failed)?;
    let tar = File::open(dir.join("layer.tar")).map_err(failed)?;
    let side = match File::open(dir.join("layer.data")) {
        Ok(side) => Some(side),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed(e)),
    };
    extractor.write_layer(&root, tar, side)?;
    mark_opaque(&root, &opaque).map_err(failed)?;
    // One flush for the tree, not one a file.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    root.open_with(Path::new(""), flags, rustix::fs::Mode::empty())
        .and_then(|fd| Ok(rustix::fs::syncfs(fd)?))
        .map_err(failed)
}

/// Makes what the layer `tar` shows below `root`, which is empty: what an extractor does. The tree is
/// read once more from the tar, as it cannot be handed to another process.
pub(crate) fn fill(root: &RootFd, tar: File, side: Option<File>) -> Result<()> {
    let mut reader = TarReader::new(&tar);
    let mut builder = Builder::new(Limits::default(), Room::alone());
    let mut side_end = 0;
    while let Some(entry) = reader.next()? {
        let data = if entry.size == 0 {
            Data::None
        } else if entry.sparse.is_some() {
            Data::Side(take_blocks(&mut side_end, entry.size))
        } else {
            Data::Tar(reader.position() / BLOCK)
        };
        builder.apply(&entry, data)?;
    }
    let (tree, _) = builder.finish();
    let mut writer = Writer {
        tree: &tree,
        placer: Placer::new(root, Path::new(""), Rules::default())?,
        tar,
        side,
        first: HashMap::new(),
    };
    writer.write_all()?;
    writer.placer.finish()
}

/// Where the next sparse file of this size lies in the side file that ends at `end`: a block.
pub(super) fn take_blocks(end: &mut u64, size: u64) -> u64 {
    let begin = *end;
    *end = begin.saturating_add(size.next_multiple_of(BLOCK));
    begin / BLOCK
}

struct Writer<'a> {
    tree: &'a Tree,
    placer: Placer<'a>,
    tar: File,
    side: Option<File>,
    /// Under which path a node of several names was made.
    first: HashMap<Id, Vec<u8>>,
}

impl Writer<'_> {
    fn write_all(&mut self) -> Result<()> {
        let mut paths = self.tree.paths();
        while let Some((id, path)) = paths.next() {
            self.make(id, path)?;
        }
        Ok(())
    }

    fn make(&mut self, id: Id, path: &[u8]) -> Result<()> {
        let node = self.tree.node(id);
        let from = &node.attributes;
        let attributes = Attributes {
            mode: from.mode.into(),
            uid: from.uid,
            gid: from.gid,
            mtime: (from.mtime, from.nanoseconds),
            xattrs: from
                .xattrs
                .iter()
                .filter(|(name, _)| !name.starts_with(b"trusted.overlay."))
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        };
        if let Some(first) = self.first.get(&id) {
            return self.placer.place(path, &attributes, Thing::HardLink(first));
        }
        if node.names > 1 {
            self.first.insert(id, path.to_vec());
        }
        let mut content;
        let thing = match &node.kind {
            Kind::Directory(_) => Thing::Directory,
            Kind::File { size, data } => {
                content = content_at(&self.tar, self.side.as_ref(), *data)
                    .map_err(|e| Error::io("cannot read the layer's tar", e))?
                    .take(*size);
                Thing::File(&mut content)
            }
            Kind::Symlink(target) => Thing::Symlink(target),
            Kind::Char { major, minor } | Kind::Block { major, minor } => Thing::Device {
                block: matches!(node.kind, Kind::Block { .. }),
                major: *major,
                minor: *minor,
            },
            Kind::Fifo => Thing::Fifo,
        };
        self.placer.place(path, &attributes, thing)
    }
}

/// What a file of the layer holds, from its begin on.
pub(super) fn content_at(tar: &File, side: Option<&File>, data: Data) -> io::Result<Box<dyn Read>> {
    let (file, block) = match (data, side) {
        (Data::Tar(block), _) => (tar, block),
        (Data::Side(block), Some(side)) => (side, block),
        _ => return Ok(Box::new(io::empty())),
    };
    Ok(Box::new(At {
        file: file.try_clone()?,
        position: block * BLOCK,
    }))
}

/// Reads from a place of a file, whatever others do with its position.
struct At {
    file: File,
    position: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

/// The directories that are opaque.
fn opaque(tree: &Tree) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut paths = tree.paths();
    while let Some((id, path)) = paths.next() {
        let node = tree.node(id);
        if id != ROOT && node.is_directory() && node.attributes.xattrs.contains(OPAQUE_XATTR) {
            found.push(PathBuf::from(OsStr::from_bytes(path)));
        }
    }
    found
}

/// Sets overlayfs' marks, which no archive can bring.
fn mark_opaque(root: &RootFd, opaque: &[PathBuf]) -> io::Result<()> {
    for path in opaque {
        let handle = root.handle_nofollow(path)?;
        xattr::set(handle.as_fd(), OPAQUE_XATTR, b"y")?;
    }
    Ok(())
}
