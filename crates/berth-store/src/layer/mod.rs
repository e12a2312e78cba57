//! Layers: what an image is stacked from, kept so that the kernel can mount it where it lies.
//!
//! ```text
//! <root>/layers/<hash>/layer.tar     the uncompressed tar, byte for byte: its hash is the diff ID
//! <root>/layers/<hash>/layer.erofs   the index: an EROFS image whose data blocks are in the tar
//! <root>/layers/<hash>/layer.data    what the tar does not hold in one piece (sparse files); rare
//! <root>/layers/<hash>/fs/           instead of the index, where the kernel cannot mount one
//! <root>/layers/new/<random>/        a layer on its way in; swept at start
//! ```
//!
//! A layer is known by its *diff ID*, the digest of its uncompressed tar. It does not depend on what
//! lies below it, so equal diffs are kept once. A layer exists when its row stands in the database;
//! the row comes after the directory, which comes by rename after everything in it is on disk.
//!
//! Begin with [`Layers::import`]. How entries become a tree is told in `entries`; how layers are
//! stacked, in [`crate::snapshot`].

mod compression;
mod directory;
mod entries;
mod import;
pub(crate) mod mapped;
mod mounts;
pub(crate) mod pipe;
mod recheck;
mod sink;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use berth_spec::Digest;
use berth_spec::oci::image::Descriptor;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::db::Db;
use crate::room::Rooms;
use crate::snapshot::overlay::Upper;
use crate::tree::Extractor;
use crate::tree::remove::remove;
use crate::{Error, Lease, Result, durable};

pub use compression::{Compression, decompress};
pub(crate) use directory::fill as fill_directory;
pub use mapped::Owners;
pub use mounts::LayerMounting;
pub(crate) use mounts::{Mounted, Mounts};

/// How a layer's files are made visible to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// An EROFS index over the tar.
    Erofs,
    /// A directory tree, for kernels that cannot mount EROFS from files (before Linux 6.12).
    Directory,
}

impl LayerForm {
    fn as_str(self) -> &'static str {
        match self {
            LayerForm::Erofs => "erofs",
            LayerForm::Directory => "directory",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "directory" => LayerForm::Directory,
            _ => LayerForm::Erofs,
        }
    }
}

/// A layer that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub size: u64,
    pub form: LayerForm,
    /// Bytes on disk, all files together.
    pub bytes: u64,
}

/// What has to be known of a layer to put it on others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stacking {
    /// The root itself is opaque: nothing below this layer is seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) opaque: bool,
    /// Directories that the tar has things in but does not list (`""` is the root): their
    /// attributes are those of the layers below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unlisted: Vec<String>,
}

/// The layers of a store; cheap to clone.
#[derive(Clone)]
pub struct Layers(Arc<Parts>);

struct Parts {
    dir: PathBuf,
    db: Db,
    mounts: Mounts,
    extractor: Extractor,
    /// One layer becomes visible at a time.
    publishing: Mutex<()>,
    rooms: Rooms,
}

impl Layers {
    /// The layers below `dir`, of which `db` keeps the record; what has to be attached goes below
    /// `run_dir`.
    pub(crate) fn at(dir: PathBuf, run_dir: &Path, db: Db, extractor: Extractor) -> Result<Layers> {
        let new = dir.join("new");
        durable::make_dir(&new)?;
        durable::empty_dir(&new);
        let mounts = Mounts::probe(&new, run_dir)?;
        Ok(Layers::with(dir, db, mounts, extractor))
    }

    /// The layers below `dir`, mounted by `mounts`.
    pub(crate) fn with(dir: PathBuf, db: Db, mounts: Mounts, extractor: Extractor) -> Layers {
        Layers(Arc::new(Parts {
            dir,
            db,
            mounts,
            extractor,
            publishing: Mutex::default(),
            rooms: Rooms::default(),
        }))
    }

    /// The memory that imports share.
    fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    /// Waits until what the opening of the store left is gone.
    pub(crate) fn settle(&self) {
        self.0.mounts.settle();
    }

    pub(super) fn extractor(&self) -> &Extractor {
        &self.0.extractor
    }

    /// How this kernel shows layers.
    pub fn mounting(&self) -> LayerMounting {
        self.0.mounts.mounting()
    }

    /// Why no root file system can be mounted here, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.0.mounts.trouble()
    }

    /// The layer `diff_id`, if it is there.
    pub fn get(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        self.0.db.read(|c| {
            c.prepare_cached("SELECT size, form, bytes FROM layer WHERE diff_id = ?")?
                .query_row([diff_id.as_str()], |row| {
                    Ok(Layer {
                        diff_id: diff_id.clone(),
                        size: row.get::<_, i64>(0)? as u64,
                        form: LayerForm::parse(&row.get::<_, String>(1)?),
                        bytes: row.get::<_, i64>(2)? as u64,
                    })
                })
                .optional()
        })
    }

    /// Takes in a layer from its tar, compressed (gzip, zstd, xz, bzip2: detected) or plain.
    ///
    /// One pass: decompressed, hashed, written and indexed as it arrives. The lease holds the layer
    /// from before it becomes visible. A layer that is there already is not kept twice.
    ///
    /// # Errors
    /// `Invalid` when the stream is no tar, when an entry would leave the layer (the error names
    /// it), when a bound is passed, or when the digest is not `expected`.
    pub fn import(
        &self,
        lease: &Lease,
        source: &mut dyn Read,
        expected: Option<&Digest>,
    ) -> Result<Layer> {
        let (mut tar, memory) = compression::open(source)?;
        let room = self.rooms().enter(memory)?;
        let limits = entries::Limits::default();
        import::import(self, lease, &mut tar, expected, limits, room)
    }

    /// The same for a tar that is known to be plain.
    pub(crate) fn import_tar(&self, lease: &Lease, tar: &mut dyn Read) -> Result<Layer> {
        let room = self.rooms().enter(0)?;
        import::import(self, lease, tar, None, entries::Limits::default(), room)
    }

    /// The uncompressed tar of a layer, exactly as it was hashed.
    pub fn open_tar(&self, diff_id: &Digest) -> Result<LayerTar> {
        if self.get(diff_id)?.is_none() {
            return Err(not_found(diff_id));
        }
        let path = self.path(diff_id).join("layer.tar");
        let open = || {
            let file = File::open(&path)?;
            let len = file.metadata()?.len();
            Ok::<_, io::Error>(LayerTar { file, len })
        };
        open().map_err(|e| Error::io(format_args!("cannot open {}", path.display()), e))
    }

    /// Remembers that `blob` is a compressed form of the layer `diff_id`.
    pub fn record_blob(&self, diff_id: &Digest, blob: &Descriptor) -> Result<()> {
        self.0.db.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO layer_blob (diff_id, digest, media_type, size)
                 VALUES (?, ?, ?, ?)",
                params![
                    diff_id.as_str(),
                    blob.digest.as_str(),
                    blob.media_type,
                    blob.size as i64
                ],
            )?;
            Ok(())
        })
    }

    /// Every blob that is known to be a compressed form of the layer, whether it is there or not.
    pub fn blobs(&self, diff_id: &Digest) -> Result<Vec<Descriptor>> {
        let rows = self.0.db.read(|c| {
            c.prepare_cached(
                "SELECT media_type, digest, size FROM layer_blob WHERE diff_id = ? ORDER BY digest",
            )?
            .query_map([diff_id.as_str()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)? as u64,
                ))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter()
            .map(|(media_type, digest, size)| {
                let digest = digest
                    .parse()
                    .map_err(|e| Error::invalid(format!("layer {diff_id}: {e}")))?;
                Ok(Descriptor::new(media_type, digest, size))
            })
            .collect()
    }

    /// Reads all that is kept of a layer and compares it with what its diff ID stands for; answers
    /// what is wrong.
    pub(crate) fn recheck(&self, diff_id: &Digest) -> Result<Option<String>> {
        recheck::recheck(self, diff_id)
    }

    /// The layer as a directory to be stacked.
    pub(crate) fn mounted(&self, diff_id: &Digest) -> Result<Arc<Mounted>> {
        self.0
            .mounts
            .get(diff_id, &self.path(diff_id), || self.how_to_stack(diff_id))
    }

    /// Lets go of a layer's mount: it is about to be deleted.
    pub(crate) fn forget_mount(&self, diff_id: &Digest) {
        self.0.mounts.forget(diff_id);
    }

    /// A detached mount made fit for [`Layers::overlay`].
    pub(crate) fn nameable(&self, fd: OwnedFd) -> Result<Mounted> {
        self.0.mounts.nameable(fd)
    }

    /// A copy of a directory with its owners mapped, made fit for [`Layers::overlay`].
    pub(crate) fn mapped(&self, directory: BorrowedFd<'_>, owners: &Owners<'_>) -> Result<Mounted> {
        self.0.mounts.mapped(directory, owners)
    }

    /// Whether the kernel can map what containers are made of here; why not, if so.
    pub(crate) fn try_mapped(&self, owners: &Owners<'_>) -> Result<()> {
        self.0.mounts.try_mapped(&self.0.dir.join("new"), owners)
    }

    /// An overlay of `lowers` (topmost first) with `upper` over them, detached.
    pub(crate) fn overlay(
        &self,
        lowers: &[BorrowedFd<'_>],
        upper: Option<Upper<'_>>,
    ) -> Result<OwnedFd> {
        self.0.mounts.overlay(lowers, upper)
    }

    /// The same of directories that are mapped.
    pub(crate) fn overlay_mapped(
        &self,
        lowers: &[BorrowedFd<'_>],
        upper: Option<Upper<'_>>,
        owners: &Owners<'_>,
    ) -> Result<OwnedFd> {
        self.0.mounts.overlay_mapped(lowers, upper, owners)
    }

    fn how_to_stack(&self, diff_id: &Digest) -> Result<(LayerForm, Stacking)> {
        let (form, stacking) = self.record(diff_id)?;
        if form == LayerForm::Erofs && self.mounting() == LayerMounting::Directory {
            return Err(mounts::needs_erofs(diff_id));
        }
        Ok((form, stacking))
    }

    /// What the database says of a layer.
    fn record(&self, diff_id: &Digest) -> Result<(LayerForm, Stacking)> {
        let row = self.0.db.read(|c| {
            c.prepare_cached("SELECT form, stacking FROM layer WHERE diff_id = ?")?
                .query_row([diff_id.as_str()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                })
                .optional()
        })?;
        let (form, stacking) = row.ok_or_else(|| not_found(diff_id))?;
        let stacking = serde_json::from_str(&stacking)
            .map_err(|e| Error::invalid(format!("record of layer {diff_id}: {e}")))?;
        Ok((LayerForm::parse(&form), stacking))
    }

    /// Makes the layer put together in `staging` visible. Another import of the same layer may have
    /// been faster.
    fn publish(&self, staging: &Path, layer: &Layer, stacking: &Stacking) -> Result<Layer> {
        let _one_at_a_time = self
            .0
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = self.get(&layer.diff_id)? {
            return Ok(there);
        }
        let to = self.path(&layer.diff_id);
        if to.exists() {
            // Without a record: left by a process that died, or by a database that was lost.
            remove(&to)
                .map_err(|e| Error::io(format_args!("cannot remove {}", to.display()), e))?;
        }
        berth_sys::fail_point("layer.import.staged");
        durable::sync_dir(staging)?;
        durable::publish(staging, &to)?;
        berth_sys::fail_point("layer.import.published");
        let stacking = serde_json::to_string(stacking)
            .map_err(|e| Error::new(crate::ErrorKind::Internal, e.to_string()))?;
        self.0.db.write(|tx| {
            let now = jiff::Timestamp::now().as_nanosecond() as i64;
            tx.execute(
                "INSERT INTO layer (diff_id, size, form, bytes, stacking, created)
                 VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    layer.diff_id.as_str(),
                    layer.size as i64,
                    layer.form.as_str(),
                    layer.bytes as i64,
                    stacking,
                    now
                ],
            )
        })?;
        berth_sys::fail_point("layer.import.recorded");
        Ok(layer.clone())
    }

    /// Where the files of a layer are, or would be.
    pub(crate) fn path(&self, diff_id: &Digest) -> PathBuf {
        self.0.dir.join(diff_id.hex())
    }

    /// The directory of all layers.
    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }
}

fn not_found(diff_id: &Digest) -> Error {
    Error::not_found(format!("no such layer: {diff_id}"))
}

/// The tar of a layer, read from the start.
#[derive(Debug)]
pub struct LayerTar {
    file: File,
    len: u64,
}

impl LayerTar {
    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)] // a tar has at least its end
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The file itself.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}
