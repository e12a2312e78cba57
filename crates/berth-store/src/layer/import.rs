//! Taking a layer in: decompress, hash, write and index in one pass, then make it visible.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use berth_spec::Digest;

use super::directory::take_blocks;
use super::entries::{Builder, Limits};
use super::sink::Sink;
use super::{Layer, LayerForm, Layers, Stacking};
use crate::erofs::tree::{Data, Kind, Tree};
use crate::erofs::write::{Devices, write};
use crate::hash::Hasher;
use crate::room::Room;
use crate::tree::entry::{Entry, refused};
use crate::tree::place::write_regions;
use crate::tree::tar_reader::TarReader;
use crate::{Error, Lease, Result, disk, durable};

const BLOCK: u64 = 512;

/// See [`Layers::import`]; `source` is not compressed.
pub(super) fn import(
    layers: &Layers,
    lease: &Lease,
    source: &mut dyn Read,
    expected: Option<&Digest>,
    limits: Limits,
    room: Room,
) -> Result<Layer> {
    if let Some(diff_id) = expected {
        lease.hold_layer(diff_id);
    }
    let staging = Staging::new(layers)?;
    let incoming = staging.receive(source, expected, limits, room)?;
    if let Some(expected) = expected
        && *expected != incoming.diff_id
    {
        return Err(Error::invalid(format!(
            "layer digest mismatch: expected {expected}, got {}",
            incoming.diff_id
        )));
    }
    lease.hold_layer(&incoming.diff_id);
    if let Some(there) = layers.get(&incoming.diff_id)? {
        return Ok(there);
    }
    let form = layers.mounting().form();
    match form {
        LayerForm::Erofs => staging.write_index(&incoming)?,
        LayerForm::Directory => {
            super::directory::write(layers.extractor(), &staging.dir, incoming.tree)?
        }
    }
    let layer = Layer {
        diff_id: incoming.diff_id,
        size: incoming.size,
        form,
        bytes: disk::bytes_on_disk(&staging.dir),
    };
    layers.publish(&staging.dir, &layer, &incoming.stacking)
}

/// The directory where a layer is put together; removed unless it was published.
pub(super) struct Staging {
    pub(super) dir: PathBuf,
}

/// What one pass over the stream found.
struct Incoming {
    diff_id: Digest,
    size: u64,
    /// Length of the side file, if there is one.
    side: Option<u64>,
    tree: Tree,
    stacking: Stacking,
}

impl Staging {
    pub(super) fn new(layers: &Layers) -> Result<Staging> {
        layers.settle();
        let dir = layers.dir().join("new").join(durable::unique_name()?);
        durable::make_dir(&dir)?;
        Ok(Staging { dir })
    }

    fn receive(
        &self,
        source: &mut dyn Read,
        expected: Option<&Digest>,
        limits: Limits,
        room: Room,
    ) -> Result<Incoming> {
        let hasher = expected.map_or_else(Hasher::new, |d| Hasher::with(d.algorithm()));
        let tar = create(&self.dir.join("layer.tar"))?;
        let mut side = Side::at(self.dir.join("layer.data"));
        let (builder, diff_id, size) = std::thread::scope(|scope| {
            let mut tee = Tee {
                source,
                sink: Sink::start(scope, &tar, hasher),
                left: limits.bytes,
            };
            let builder = index(&mut tee, &mut side, limits, room)?;
            let (diff_id, size) = tee.sink.finish()?;
            Ok::<_, Error>((builder, diff_id, size))
        })?;
        tar.sync_all()
            .map_err(|e| Error::io("cannot sync the layer", e))?;
        let (mut tree, stacking) = builder.finish();
        side.take_torn(&mut tree, &tar, size)?;
        let side = side.finish()?;
        Ok(Incoming {
            diff_id,
            size,
            side,
            tree,
            stacking,
        })
    }

    fn write_index(&self, incoming: &Incoming) -> Result<()> {
        let path = self.dir.join("layer.erofs");
        let mut file = create(&path)?;
        let devices = Devices {
            tag: incoming.diff_id.hex(),
            tar: incoming.size,
            side: incoming.side,
        };
        write(&incoming.tree, &devices, &mut file)
            .and_then(|_| file.sync_all())
            .map_err(|e| Error::io(format_args!("cannot write {}", path.display()), e))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Renamed away when all went well; else swept again at the next start.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Reads the tar to its end and builds the tree.
pub(super) fn index(
    tar: impl Read,
    side: &mut Side,
    limits: Limits,
    room: Room,
) -> Result<Builder> {
    let mut reader = TarReader::new(tar);
    let mut builder = Builder::new(limits, room);
    while let Some(entry) = reader.next()? {
        let data = if entry.size == 0 {
            Data::None
        } else if entry.sparse.is_some() {
            Data::Side(side.take(&entry, &mut reader)?)
        } else {
            Data::Tar(reader.position() / BLOCK)
        };
        builder.apply(&entry, data)?;
    }
    reader.drain()?;
    Ok(builder)
}

/// Passes on what is read.
struct Tee<'a, 'scope> {
    source: &'a mut dyn Read,
    sink: Sink<'scope>,
    left: u64,
}

impl Read for Tee<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| Error::invalid("the layer is too large"))?;
        if n > 0 {
            self.sink.push(&buffer[..n])?;
        }
        Ok(n)
    }
}

/// Sparse files, expanded one after the other; holes stay holes.
pub(super) struct Side {
    path: PathBuf,
    file: Option<File>,
    end: u64,
}

impl Side {
    pub(super) fn at(path: PathBuf) -> Side {
        Side {
            path,
            file: None,
            end: 0,
        }
    }

    /// Takes the content of a sparse entry; the block where it begins.
    fn take<R: Read>(&mut self, entry: &Entry, reader: &mut TarReader<R>) -> Result<u64> {
        let block = take_blocks(&mut self.end, entry.size);
        if self.end / BLOCK > u64::from(u32::MAX) {
            return Err(refused(
                &entry.path,
                "the sparse files are too large together",
            ));
        }
        let mut copy = || {
            let file = self.file()?;
            file.seek(SeekFrom::Start(block * BLOCK))?;
            let regions = entry.sparse.as_deref().unwrap_or_default();
            write_regions(file, &mut reader.content(), regions)
        };
        copy().map_err(|e| Error::io(format_args!("cannot write {}", self.path.display()), e))?;
        Ok(block)
    }

    /// Takes the content of the file at the end of a tar that stops in the middle of a block: the
    /// kernel reads whole blocks.
    pub(super) fn take_torn(&mut self, tree: &mut Tree, tar: &File, size: u64) -> Result<()> {
        let whole = size / BLOCK;
        if size == whole * BLOCK {
            return Ok(());
        }
        let mut moved = None;
        for node in tree.nodes_mut() {
            let Kind::File { size, data } = &mut node.kind else {
                continue;
            };
            if let Data::Tar(block) = *data
                && block + size.div_ceil(BLOCK) > whole
            {
                let begin = match moved {
                    Some(begin) => begin,
                    None => *moved.insert(self.append(tar, block * BLOCK, *size)?),
                };
                *data = Data::Side(begin);
            }
        }
        Ok(())
    }

    /// Copies `len` bytes of `tar`; the block where they begin here.
    fn append(&mut self, mut tar: &File, at: u64, len: u64) -> Result<u64> {
        let begin = self.end;
        self.end = begin + len.next_multiple_of(BLOCK);
        let mut copy = || {
            let file = self.file()?;
            file.seek(SeekFrom::Start(begin))?;
            tar.seek(SeekFrom::Start(at))?;
            io::copy(&mut tar.take(len), file)
        };
        copy().map_err(|e| Error::io(format_args!("cannot write {}", self.path.display()), e))?;
        Ok(begin / BLOCK)
    }

    fn file(&mut self) -> Result<&mut File> {
        Ok(match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.path)?),
        })
    }

    /// The length of the file, once it is on disk.
    pub(super) fn finish(self) -> Result<Option<u64>> {
        let Some(file) = self.file else {
            return Ok(None);
        };
        file.set_len(self.end)
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::io(format_args!("cannot write {}", self.path.display()), e))?;
        Ok(Some(self.end))
    }
}

fn create(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io(format_args!("cannot create {}", path.display()), e))
}
