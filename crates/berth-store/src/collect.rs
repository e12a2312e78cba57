//! The collector: the only one that deletes content and layers.
//!
//! A blob or layer stays if an image, a snapshot or a record needs it, or a lease holds it. From the
//! moment the collector looks until everything condemned is out of sight no lease gains anything, so
//! that what somebody holds and then sees, stays. Moving out of sight is a rename into `trash/`; the
//! unlinking, which takes long, comes after the leases may move again.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use berth_spec::Digest;
use rusqlite::Connection;

use crate::db::Db;
use crate::lease::{Frozen, Held};
use crate::{Error, Layers, Result, Store, disk, durable, records};

/// That no image, snapshot or record needs a row of `layer`.
macro_rules! unreferenced {
    () => {
        "NOT EXISTS (SELECT 1 FROM image_layer i WHERE i.diff_id = layer.diff_id)
         AND NOT EXISTS (SELECT 1 FROM snapshot_layer s WHERE s.diff_id = layer.diff_id)
         AND NOT EXISTS (SELECT 1 FROM record_holds r WHERE r.kind = 'layer' AND r.digest = layer.diff_id)"
    };
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bytes on disk that are free again.
    pub bytes: u64,
    pub blobs: usize,
    pub layers: usize,
}

/// Bytes on disk, by what takes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Layers of images and of snapshots: tars, their indexes, directory forms.
    pub layers: u64,
    /// Layers that only records (the build cache) hold, or nobody any more.
    pub spare_layers: u64,
    /// Blobs: configs, manifests, compressed layers.
    pub content: u64,
    /// The directories of snapshots.
    pub snapshots: u64,
    /// What stands at the top of the root: databases with their logs, locks, the directories
    /// themselves. Whoever shares the root is in it too.
    pub top: u64,
    /// How many layers there are.
    pub layer_count: u64,
}

impl Store {
    /// Removes every blob and layer that nothing needs and nobody holds.
    pub fn collect(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        self.layers().settle();
        {
            let frozen = self.leases().freeze();
            self.condemn_layers(&frozen, &mut collected)?;
            self.condemn_blobs(&frozen, &mut collected)?;
        }
        berth_sys::fail_point("collect.condemned");
        durable::empty_dir(&self.trash());
        collected.bytes += self.content().discard_parts();
        if collected.layers + collected.blobs > 0 {
            self.db().shorten_log();
        }
        Ok(collected)
    }

    fn condemn_layers(&self, frozen: &Frozen<'_>, collected: &mut Collected) -> Result<()> {
        for (diff_id, bytes) in self.db().read(unreferenced_layers)? {
            if frozen.holds(&Held::Layer(diff_id.clone())) {
                continue;
            }
            // The record goes first: a directory without one is swept, a record without its
            // directory would be a lie. Looked at once more in the same transaction: a snapshot may
            // have come since, which takes no lease.
            let gone = self.db().write(|tx| {
                let gone = tx.execute(
                    concat!("DELETE FROM layer WHERE diff_id = ?1 AND ", unreferenced!()),
                    [diff_id.as_str()],
                )? > 0;
                if gone {
                    tx.execute(
                        "DELETE FROM layer_blob WHERE diff_id = ?1",
                        [diff_id.as_str()],
                    )?;
                }
                Ok(gone)
            })?;
            if !gone {
                continue;
            }
            berth_sys::fail_point("collect.layer.recorded");
            self.layers().forget_mount(&diff_id);
            let to = self.trash().join(durable::unique_name()?);
            match fs::rename(self.layers().path(&diff_id), to) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(format_args!("cannot remove layer {diff_id}"), e)),
            }
            berth_sys::fail_point("collect.layer.renamed");
            collected.layers += 1;
            collected.bytes += bytes;
        }
        Ok(())
    }

    fn condemn_blobs(&self, frozen: &Frozen<'_>, collected: &mut Collected) -> Result<()> {
        let needed = self.db().read(referenced_blobs)?;
        for (digest, bytes) in self.content().list()? {
            if needed.contains(digest.as_str()) || frozen.holds(&Held::Blob(digest.clone())) {
                continue;
            }
            self.content().discard(&digest, &self.trash())?;
            berth_sys::fail_point("collect.blob.renamed");
            collected.blobs += 1;
            collected.bytes += bytes;
        }
        Ok(())
    }

    /// What takes how much of the disk.
    pub fn usage(&self) -> Result<Usage> {
        let [layers, spare_layers, layer_count] = self.db().read(|c| {
            c.query_row(
                "SELECT coalesce(sum(bytes) FILTER (WHERE needed), 0),
                        coalesce(sum(bytes) FILTER (WHERE NOT needed), 0),
                        count(*)
                 FROM (SELECT bytes,
                              EXISTS (SELECT 1 FROM image_layer i WHERE i.diff_id = layer.diff_id)
                              OR EXISTS (SELECT 1 FROM snapshot_layer s WHERE s.diff_id = layer.diff_id) AS needed
                       FROM layer)",
                [],
                |row| Ok([row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?]),
            )
        })?;
        let mut snapshots = 0;
        for key in self.snapshots().list()? {
            snapshots += self.snapshots().bytes(&key)?;
        }
        let top = fs::read_dir(self.root())
            .map_err(|e| Error::io(format_args!("cannot list {}", self.root().display()), e))?
            .flatten()
            .map(|entry| entry.path())
            .chain([self.root().to_owned(), self.layers().dir().join("new")])
            .chain(self.content().dirs())
            .map(|path| disk::own_bytes(&path))
            .sum();
        Ok(Usage {
            layers: layers.unsigned_abs(),
            spare_layers: spare_layers.unsigned_abs(),
            content: self.content().bytes()?,
            snapshots,
            top,
            layer_count: layer_count.unsigned_abs(),
        })
    }
}

/// Moves the layer directories that no record tells of into `trash`: what a process left that died
/// between the two.
pub(crate) fn sweep_layers(db: &Db, layers: &Layers, trash: &Path) -> Result<()> {
    let failed = |e| Error::io(format_args!("cannot list {}", layers.dir().display()), e);
    for entry in fs::read_dir(layers.dir()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let digest: Option<Digest> = entry
            .file_name()
            .to_str()
            .and_then(|hex| format!("sha256:{hex}").parse().ok());
        let Some(digest) = digest else { continue };
        let known = db.read(|c| {
            c.prepare_cached("SELECT 1 FROM layer WHERE diff_id = ?1")?
                .exists([digest.as_str()])
        })?;
        if !known {
            tracing::info!(layer = %digest, "removing a layer that no record tells of");
            let to = trash.join(durable::unique_name()?);
            fs::rename(entry.path(), to)
                .map_err(|e| Error::io(format_args!("cannot remove layer {digest}"), e))?;
        }
    }
    Ok(())
}

/// Layers that no image, snapshot or record needs, with their bytes on disk.
fn unreferenced_layers(c: &Connection) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let mut statement = c.prepare_cached(concat!(
        "SELECT diff_id, bytes FROM layer WHERE ",
        unreferenced!()
    ))?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (diff_id, bytes) = row?;
        if let Ok(diff_id) = diff_id.parse() {
            found.push((diff_id, bytes.unsigned_abs()));
        }
    }
    Ok(found)
}

/// Blobs that an image, a layer or a record needs.
fn referenced_blobs(c: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut needed = HashSet::new();
    let mut statement = c.prepare_cached(
        "SELECT id FROM image
         UNION SELECT manifest_digest FROM image WHERE manifest_digest IS NOT NULL
         UNION SELECT digest FROM layer_blob",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        needed.insert(row.get(0)?);
    }
    for held in records::held(c)? {
        if let Held::Blob(digest) = held {
            needed.insert(digest.to_string());
        }
    }
    Ok(needed)
}
