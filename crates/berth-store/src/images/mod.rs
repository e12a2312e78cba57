//! Images: which configs are images here, what they are called, what they need.
//!
//! An image's *ID* is the digest of its config. It is added once its layers are here; names point at
//! it, of two kinds: tags (`name:tag`, which move) and digests (`name@sha256:…`, which say what a
//! registry calls it). Removing an image removes the record; bytes go when the collector runs.

mod resolve;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use berth_spec::oci::image::{CONFIG_MAX, Descriptor, ImageConfig, MANIFEST_MAX};
use berth_spec::{Digest, Reference};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::db::Db;
use crate::roster::Roster;
use crate::{Content, Error, ErrorKind, Lease, Result};

/// Layers that an image may have at most: an overlay takes no more.
pub const LAYERS_MAX: usize = 500;

/// What makes an image.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The config, byte for byte: its digest is the ID.
    pub config: Vec<u8>,
    /// Media type and bytes of the manifest it came with.
    pub manifest: Option<(String, Vec<u8>)>,
    /// The image that it was built or committed on.
    pub parent: Option<Digest>,
}

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its config.
    pub id: Digest,
    /// The config, parsed.
    pub config: Arc<ImageConfig>,
    /// Its names `name:tag`, sorted.
    pub tags: Vec<Reference>,
    /// Its names `name@digest`, sorted.
    pub digests: Vec<Reference>,
    /// Bytes of its layers' tars.
    pub size: u64,
    /// The image that it was built or committed on.
    pub parent: Option<Digest>,
    /// The manifest it came with or was last sent as.
    pub manifest: Option<Descriptor>,
    /// When a tag was last pointed at it.
    pub last_tagged: Option<Timestamp>,
    /// When it came here.
    pub added: Timestamp,
}

impl Image {
    /// The digest of its config, which is its ID.
    pub fn config_digest(&self) -> &Digest {
        &self.id
    }

    /// Its layers by diff ID, lowest first.
    pub fn layers(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }
}

/// The images of a store; cheap to clone.
#[derive(Clone)]
pub struct Images {
    db: Db,
    content: Content,
    roster: Roster,
    /// Parsed configs of images that are here.
    configs: Arc<Mutex<HashMap<Digest, Arc<ImageConfig>>>>,
}

impl Images {
    pub(crate) fn new(db: Db, content: Content, roster: Roster) -> Self {
        Self {
            db,
            content,
            roster,
            configs: Arc::default(),
        }
    }

    /// Adds an image whose layers are here. One that is here already stays, and learns of a
    /// manifest or parent that it did not have.
    pub fn add(&self, lease: &Lease, image: NewImage) -> Result<Image> {
        let config = parse_config(&image.config)?;
        for diff_id in &config.rootfs.diff_ids {
            lease.hold_layer(diff_id);
        }
        let id = self.content.put(lease, &image.config)?;
        let manifest = match &image.manifest {
            Some((media_type, bytes)) => {
                if bytes.len() as u64 > MANIFEST_MAX {
                    return Err(Error::invalid(format!(
                        "the manifest of image {id} has more than {MANIFEST_MAX} bytes"
                    )));
                }
                let digest = self.content.put(lease, bytes)?;
                Some(Descriptor::new(media_type, digest, bytes.len() as u64))
            }
            None => None,
        };
        berth_sys::fail_point("image.add.content");
        let missing = self
            .db
            .read(|c| first_missing(c, &config.rootfs.diff_ids))?;
        if let Some(diff_id) = missing {
            return Err(Error::not_found(format!(
                "image {id} needs the layer {diff_id}, which is not here"
            )));
        }
        self.db
            .write(|tx| insert(tx, &id, &config, manifest.as_ref(), image.parent.as_ref()))?;
        berth_sys::fail_point("image.add.recorded");
        self.configs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), Arc::new(config));
        self.roster.write(&self.db)?;
        self.get(&id)
    }

    /// The image `id`.
    pub fn get(&self, id: &Digest) -> Result<Image> {
        self.find(id, || self.config(id))
    }

    /// The image `id` to be removed: where its config cannot be read, with an empty one.
    pub fn outline(&self, id: &Digest) -> Result<Image> {
        self.find(id, || Ok(self.config(id).unwrap_or_default()))
    }

    fn find(
        &self,
        id: &Digest,
        config: impl FnOnce() -> Result<Arc<ImageConfig>>,
    ) -> Result<Image> {
        let found = self.db.read(|c| {
            let mut statement = c.prepare_cached(SELECT_ONE)?;
            let row = statement
                .query_row(params![id.as_str()], read_row)
                .optional()?;
            row.map(|row| Ok((row, names_of(c, id)?))).transpose()
        })?;
        let Some((row, names)) = found else {
            return Err(no_such_image(id.as_str()));
        };
        assemble(row, names, config()?)
    }

    /// All images, in the order in which they came.
    pub fn list(&self) -> Result<Vec<Image>> {
        let (rows, mut names) = self.db.read(|c| {
            let mut statement = c.prepare_cached(SELECT_ALL)?;
            let rows: Vec<ImageRow> = statement
                .query_map([], read_row)?
                .collect::<rusqlite::Result<_>>()?;
            let mut names: HashMap<String, Vec<(String, String)>> = HashMap::new();
            let mut statement =
                c.prepare_cached("SELECT image, kind, name FROM image_name ORDER BY name")?;
            let mut found = statement.query([])?;
            while let Some(row) = found.next()? {
                names
                    .entry(row.get(0)?)
                    .or_default()
                    .push((row.get(1)?, row.get(2)?));
            }
            Ok((rows, names))
        })?;
        let mut images = Vec::with_capacity(rows.len());
        for row in rows {
            let names = names.remove(&row.id).unwrap_or_default();
            let id = row.id.clone();
            let config = parse_digest(&id).and_then(|id| self.config(&id));
            match config.and_then(|config| assemble(row, names, config)) {
                Ok(image) => images.push(image),
                // One damaged image must not hide the others.
                Err(error) => tracing::warn!(image.id = %id, %error, "an image cannot be read"),
            }
        }
        Ok(images)
    }

    /// Points `name` (`name:tag`, or `name@digest`) at the image `id`, on disk when it returns.
    pub fn tag(&self, name: &Reference, id: &Digest) -> Result<()> {
        let kind = match (name.tag(), name.digest()) {
            (Some(_), None) => "tag",
            (None, Some(_)) => "digest",
            _ => {
                return Err(Error::invalid(format!(
                    "{name}: an image is named by a tag or by a digest"
                )));
            }
        };
        let now = now_ns();
        let known = self.db.write_durable(|tx| {
            let known = tx.execute(
                "UPDATE image SET last_tagged = CASE ?3 WHEN 'tag' THEN ?2 ELSE last_tagged END WHERE id = ?1",
                params![id.as_str(), now, kind],
            )? > 0;
            if known {
                tx.execute(
                    "INSERT INTO image_name (name, kind, image) VALUES (?1, ?2, ?3)
                     ON CONFLICT (name) DO UPDATE SET image = excluded.image",
                    params![name.to_string(), kind, id.as_str()],
                )?;
            }
            Ok(known)
        })?;
        berth_sys::fail_point("image.tag.recorded");
        if known {
            self.roster.write(&self.db)
        } else {
            Err(no_such_image(id.as_str()))
        }
    }

    /// Forgets a name and says which image it was of.
    pub fn untag(&self, name: &Reference) -> Result<Option<Digest>> {
        let found: Option<String> = self.db.write_durable(|tx| {
            tx.query_row(
                "DELETE FROM image_name WHERE name = ?1 RETURNING image",
                params![name.to_string()],
                |row| row.get(0),
            )
            .optional()
        })?;
        berth_sys::fail_point("image.untag.recorded");
        self.roster.write(&self.db)?;
        found.map(|id| parse_digest(&id)).transpose()
    }

    /// Forgets the image and all its names.
    pub fn remove(&self, id: &Digest) -> Result<()> {
        match self.forget(id, "DELETE FROM image WHERE id = ?1")? {
            true => Ok(()),
            false => Err(no_such_image(id.as_str())),
        }
    }

    /// Forgets the image unless it has a tag, which somebody may have given it since the caller
    /// looked; whether it is forgotten.
    pub fn remove_untagged(&self, id: &Digest) -> Result<bool> {
        self.forget(
            id,
            "DELETE FROM image WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM image_name WHERE image = ?1 AND kind = 'tag')",
        )
    }

    fn forget(&self, id: &Digest, statement: &str) -> Result<bool> {
        let gone = self
            .db
            .write_durable(|tx| tx.execute(statement, params![id.as_str()]))?;
        if gone == 0 {
            return Ok(false);
        }
        self.configs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        berth_sys::fail_point("image.remove.recorded");
        self.roster.write(&self.db)?;
        Ok(true)
    }

    /// The images that were built or committed on the image `id`.
    pub fn children(&self, id: &Digest) -> Result<Vec<Digest>> {
        let ids = self.db.read(|c| {
            c.prepare_cached("SELECT id FROM image WHERE parent = ?1 ORDER BY added")?
                .query_map(params![id.as_str()], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        ids.iter().map(|id| parse_digest(id)).collect()
    }

    /// Remembers the manifest that the image was sent as.
    pub fn set_manifest(
        &self,
        lease: &Lease,
        id: &Digest,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Descriptor> {
        let digest = self.content.put(lease, bytes)?;
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.db.write(|tx| {
            tx.execute(
                "UPDATE image SET manifest_media_type = ?2, manifest_digest = ?3, manifest_size = ?4 WHERE id = ?1",
                params![id.as_str(), media_type, descriptor.digest.as_str(), bytes.len() as i64],
            )
        })?;
        Ok(descriptor)
    }

    fn config(&self, id: &Digest) -> Result<Arc<ImageConfig>> {
        let cached = self
            .configs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned();
        if let Some(config) = cached {
            return Ok(config);
        }
        let config = Arc::new(parse_config(&self.content.read(id, CONFIG_MAX)?)?);
        self.configs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), config.clone());
        Ok(config)
    }
}

fn assemble(
    row: ImageRow,
    names: Vec<(String, String)>,
    config: Arc<ImageConfig>,
) -> Result<Image> {
    let id = parse_digest(&row.id)?;
    let mut sorted: BTreeMap<&str, Vec<Reference>> = BTreeMap::new();
    for (kind, name) in &names {
        if let Ok(reference) = name.parse() {
            sorted.entry(kind).or_default().push(reference);
        }
    }
    let manifest = match (row.manifest_media_type, row.manifest_digest) {
        (Some(media_type), Some(digest)) => Some(Descriptor::new(
            media_type,
            parse_digest(&digest)?,
            row.manifest_size.unwrap_or(0).unsigned_abs(),
        )),
        _ => None,
    };
    Ok(Image {
        config,
        tags: sorted.remove("tag").unwrap_or_default(),
        digests: sorted.remove("digest").unwrap_or_default(),
        size: row.size.unsigned_abs(),
        parent: row.parent.map(|p| parse_digest(&p)).transpose()?,
        manifest,
        last_tagged: row.last_tagged.map(time),
        added: time(row.added),
        id,
    })
}

/// A row of the table `image`, with the size of its layers.
struct ImageRow {
    id: String,
    manifest_media_type: Option<String>,
    manifest_digest: Option<String>,
    manifest_size: Option<i64>,
    parent: Option<String>,
    added: i64,
    last_tagged: Option<i64>,
    size: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, manifest_media_type, manifest_digest, manifest_size, parent, added, last_tagged,
                (SELECT coalesce(sum(layer.size), 0) FROM image_layer JOIN layer USING (diff_id)
                 WHERE image_layer.image = image.id)
             FROM image ",
            $rest
        )
    };
}

const SELECT_ONE: &str = select!("WHERE id = ?1");
const SELECT_ALL: &str = select!("ORDER BY added, id");

fn read_row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: row.get(0)?,
        manifest_media_type: row.get(1)?,
        manifest_digest: row.get(2)?,
        manifest_size: row.get(3)?,
        parent: row.get(4)?,
        added: row.get(5)?,
        last_tagged: row.get(6)?,
        size: row.get(7)?,
    })
}

/// `(kind, name)` of every name of the image.
fn names_of(c: &Connection, id: &Digest) -> rusqlite::Result<Vec<(String, String)>> {
    c.prepare_cached("SELECT kind, name FROM image_name WHERE image = ?1 ORDER BY name")?
        .query_map(params![id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn insert(
    tx: &Connection,
    id: &Digest,
    config: &ImageConfig,
    manifest: Option<&Descriptor>,
    parent: Option<&Digest>,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO image (id, manifest_media_type, manifest_digest, manifest_size, parent, added)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET
            manifest_media_type = coalesce(excluded.manifest_media_type, manifest_media_type),
            manifest_digest     = coalesce(excluded.manifest_digest, manifest_digest),
            manifest_size       = coalesce(excluded.manifest_size, manifest_size),
            parent              = coalesce(parent, excluded.parent)",
        params![
            id.as_str(),
            manifest.map(|m| &m.media_type),
            manifest.map(|m| m.digest.as_str()),
            manifest.map(|m| m.size as i64),
            parent.map(Digest::as_str),
            now_ns(),
        ],
    )?;
    let mut statement = tx.prepare_cached(
        "INSERT OR IGNORE INTO image_layer (image, position, diff_id) VALUES (?1, ?2, ?3)",
    )?;
    for (position, diff_id) in config.rootfs.diff_ids.iter().enumerate() {
        statement.execute(params![id.as_str(), position as i64, diff_id.as_str()])?;
    }
    Ok(())
}

fn first_missing(c: &Connection, diff_ids: &[Digest]) -> rusqlite::Result<Option<Digest>> {
    let mut statement = c.prepare_cached("SELECT 1 FROM layer WHERE diff_id = ?1")?;
    for diff_id in diff_ids {
        if !statement.exists(params![diff_id.as_str()])? {
            return Ok(Some(diff_id.clone()));
        }
    }
    Ok(None)
}

/// Reads a config within its bounds.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfig> {
    if bytes.len() as u64 > CONFIG_MAX {
        return Err(Error::invalid(format!(
            "an image config of more than {CONFIG_MAX} bytes"
        )));
    }
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("invalid image config: {e}")))?;
    if !config.rootfs.kind.is_empty() && config.rootfs.kind != "layers" {
        return Err(Error::invalid(format!(
            "invalid image config: rootfs of type {:?}",
            config.rootfs.kind
        )));
    }
    if config.rootfs.diff_ids.len() > LAYERS_MAX {
        return Err(Error::invalid(format!(
            "invalid image config: more than {LAYERS_MAX} layers"
        )));
    }
    Ok(config)
}

/// Docker's words; `what` is the name or ID as it was given.
pub(crate) fn no_such_image(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such image: {what}"))
}

fn parse_digest(text: &str) -> Result<Digest> {
    text.parse()
        .map_err(|e| Error::new(ErrorKind::Internal, format!("image database: {e}")))
}

/// Now, as the database keeps it.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn time(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}
