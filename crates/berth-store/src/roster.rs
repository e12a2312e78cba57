//! The roster: what the database says of images, their names and their layers, once more, in a small
//! file beside it.
//!
//! ```text
//! <root>/images.json    one line of JSON, then the digest of that line
//! ```
//!
//! It is written, and on disk, before a change of images is acknowledged, and read when the store is
//! opened: what stands in it and not in the database is put back. So a damaged database costs no image
//! and no name, and neither does a damaged roster.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::db::Db;
use crate::{Error, ErrorKind, Result, durable, hash};

/// Bytes that it may have at most: some hundred thousand images.
const SIZE_MAX: u64 = 256 << 20;

/// A row of `image`, with its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ImageEntry {
    id: String,
    manifest: Option<(String, String, i64)>,
    parent: Option<String>,
    added: i64,
    last_tagged: Option<i64>,
    layers: Vec<String>,
}

/// A row of `layer`, with the blobs it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LayerEntry {
    diff_id: String,
    size: i64,
    form: String,
    bytes: i64,
    stacking: String,
    created: i64,
    blobs: Vec<(String, String, i64)>,
}

/// All of it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entries {
    images: Vec<ImageEntry>,
    /// Name, kind, image.
    names: Vec<(String, String, String)>,
    layers: Vec<LayerEntry>,
}

/// Where the roster is kept; cheap to clone. One writes it at a time.
#[derive(Clone)]
pub(crate) struct Roster(Arc<Mutex<PathBuf>>);

/// What was put back when the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) images: usize,
    pub(crate) names: usize,
    pub(crate) layers: usize,
}

impl Roster {
    pub(crate) fn at(root: &Path) -> Self {
        Self(Arc::new(Mutex::new(root.join("images.json"))))
    }

    /// Writes down what the database says now. Where there is no room for it there is none until there
    /// is: a removal must not fail for want of space.
    pub(crate) fn write(&self, db: &Db) -> Result<()> {
        let path = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = db.read(entries)?;
        match replace(&path, &entries) {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                tracing::warn!(%error, "the second record of images has to wait");
                // An old one would bring back what has been removed.
                match fs::remove_file(&*path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            }
            written => written,
        }
    }

    /// Puts back into the database what it lacks, as far as the files are there: `has_layer` and
    /// `has_blob` tell by digest. What is left is written down again where that differs.
    pub(crate) fn restore(
        &self,
        db: &Db,
        has_layer: &dyn Fn(&str) -> bool,
        has_blob: &dyn Fn(&str) -> bool,
    ) -> Result<Restored> {
        let noted = {
            let path = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            read(&path)
        };
        let known = db.read(entries)?;
        if noted.as_ref() == Some(&known) {
            return Ok(Restored::default());
        }
        let mut restored = Restored::default();
        if let Some(noted) = noted {
            restored = db.write(|tx| put_back(tx, &noted, has_layer, has_blob))?;
        }
        self.write(db)?;
        Ok(restored)
    }
}

fn replace(path: &Path, entries: &Entries) -> Result<()> {
    let line = serde_json::to_string(entries)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("the record of images: {e}")))?;
    let digest = hash::sha256(line.as_bytes());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let new = path.with_extension("json.new");
    let failed = |e| Error::io(format_args!("cannot write {}", new.display()), e);
    let written = (|| {
        let mut file = fs::File::create(&new)?;
        file.write_all(format!("{line}\n{digest}\n").as_bytes())?;
        file.sync_all()
    })();
    if let Err(e) = written {
        // Half of one is of no use.
        let _ = fs::remove_file(&new);
        return Err(failed(e));
    }
    fs::rename(&new, path).map_err(failed)?;
    durable::sync_dir(dir)
}

/// What the file says; nothing where it is not there or not whole.
fn read(path: &Path) -> Option<Entries> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    let read = file.take(SIZE_MAX).read_to_string(&mut text);
    let entries = read.ok().and_then(|_| {
        let (line, digest) = text.trim_end().rsplit_once('\n')?;
        let whole = hash::sha256(line.as_bytes()).to_string() == digest;
        whole.then(|| serde_json::from_str(line).ok())?
    });
    if entries.is_none() {
        tracing::warn!(path = %path.display(), "the second record of images is damaged and is made anew");
    }
    entries
}

/// All rows of a query.
fn rows<T>(
    c: &Connection,
    query: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    c.prepare_cached(query)?.query_map([], read)?.collect()
}

/// What the database says.
pub(crate) fn entries(c: &Connection) -> rusqlite::Result<Entries> {
    let mut entries = Entries::default();
    let of_images = rows(
        c,
        "SELECT image, diff_id FROM image_layer ORDER BY image, position",
        |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)),
    )?;
    let of_layers = rows(
        c,
        "SELECT diff_id, digest, media_type, size FROM layer_blob ORDER BY diff_id, digest",
        |r| Ok((r.get::<_, String>(0)?, (r.get(1)?, r.get(2)?, r.get(3)?))),
    )?;
    entries.images = rows(
        c,
        "SELECT id, manifest_media_type, manifest_digest, manifest_size, parent, added, last_tagged FROM image ORDER BY id",
        |r| {
            let id: String = r.get(0)?;
            let manifest = match (r.get(1)?, r.get(2)?, r.get(3)?) {
                (Some(kind), Some(digest), Some(size)) => Some((kind, digest, size)),
                _ => None,
            };
            let own = of_images.iter().filter(|(image, _)| *image == id);
            Ok(ImageEntry {
                manifest,
                parent: r.get(4)?,
                added: r.get(5)?,
                last_tagged: r.get(6)?,
                layers: own.map(|(_, layer)| layer.clone()).collect(),
                id,
            })
        },
    )?;
    entries.names = rows(
        c,
        "SELECT name, kind, image FROM image_name ORDER BY name",
        |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
    )?;
    let needed: BTreeSet<&String> = entries.images.iter().flat_map(|i| &i.layers).collect();
    entries.layers = rows(
        c,
        "SELECT diff_id, size, form, bytes, stacking, created FROM layer ORDER BY diff_id",
        |r| {
            let diff_id: String = r.get(0)?;
            let own = of_layers.iter().filter(|(layer, _)| *layer == diff_id);
            Ok(LayerEntry {
                size: r.get(1)?,
                form: r.get(2)?,
                bytes: r.get(3)?,
                stacking: r.get(4)?,
                created: r.get(5)?,
                blobs: own.map(|(_, blob)| blob.clone()).collect(),
                diff_id,
            })
        },
    )?;
    entries.layers.retain(|l| needed.contains(&l.diff_id));
    Ok(entries)
}

fn put_back(
    tx: &Transaction<'_>,
    noted: &Entries,
    has_layer: &dyn Fn(&str) -> bool,
    has_blob: &dyn Fn(&str) -> bool,
) -> rusqlite::Result<Restored> {
    let mut restored = Restored::default();
    for layer in noted.layers.iter().filter(|l| has_layer(&l.diff_id)) {
        restored.layers += put_back_layer(tx, layer)?;
    }
    for image in &noted.images {
        let whole = has_blob(&image.id) && image.layers.iter().all(|l| has_layer(l));
        if whole {
            restored.images += put_back_image(tx, image)?;
        }
    }
    for (name, kind, image) in &noted.names {
        restored.names += tx.execute(
            "INSERT INTO image_name (name, kind, image) SELECT ?1, ?2, ?3
             WHERE EXISTS (SELECT 1 FROM image WHERE id = ?3) ON CONFLICT (name) DO NOTHING",
            params![name, kind, image],
        )?;
    }
    Ok(restored)
}

/// A layer's row never changes: one that differs is damaged.
fn put_back_layer(tx: &Transaction<'_>, layer: &LayerEntry) -> rusqlite::Result<usize> {
    let changed = tx.execute(
        "INSERT INTO layer (diff_id, size, form, bytes, stacking, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (diff_id) DO UPDATE SET size = ?2, form = ?3, bytes = ?4, stacking = ?5, created = ?6
         WHERE size != ?2 OR form != ?3 OR bytes != ?4 OR stacking != ?5 OR created != ?6",
        params![
            layer.diff_id,
            layer.size,
            layer.form,
            layer.bytes,
            layer.stacking,
            layer.created
        ],
    )?;
    for (digest, media_type, size) in &layer.blobs {
        tx.execute(
            "INSERT OR IGNORE INTO layer_blob (diff_id, digest, media_type, size) VALUES (?1, ?2, ?3, ?4)",
            params![layer.diff_id, digest, media_type, size],
        )?;
    }
    Ok(changed)
}

fn put_back_image(tx: &Transaction<'_>, image: &ImageEntry) -> rusqlite::Result<usize> {
    let manifest = image.manifest.as_ref();
    let mut changed = tx.execute(
        "INSERT INTO image (id, manifest_media_type, manifest_digest, manifest_size, parent, added, last_tagged)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
        params![
            image.id,
            manifest.map(|m| &m.0),
            manifest.map(|m| &m.1),
            manifest.map(|m| m.2),
            image.parent,
            image.added,
            image.last_tagged
        ],
    )?;
    for (position, diff_id) in image.layers.iter().enumerate() {
        let fixed = tx.execute(
            "INSERT INTO image_layer (image, position, diff_id) VALUES (?1, ?2, ?3)
             ON CONFLICT (image, position) DO UPDATE SET diff_id = ?3 WHERE diff_id != ?3",
            params![image.id, position as i64, diff_id],
        )?;
        changed = changed.max(fixed);
    }
    Ok(changed)
}
