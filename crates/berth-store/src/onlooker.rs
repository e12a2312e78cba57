//! A look into a store that another process has open: what is here is read, nothing is changed.
//!
//! Nothing is held: the process that owns the store may remove what was just seen. A file that was
//! opened stays readable until it is closed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use berth_spec::oci::image::Descriptor;
use berth_spec::{Digest, Reference};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::{Error, ErrorKind, Result};

/// How long a look waits for the owner's writing.
const PATIENCE: Duration = Duration::from_secs(5);

/// A store, looked at from outside.
pub struct Onlooker {
    root: PathBuf,
    db: Mutex<Connection>,
}

/// An image as it was a moment ago.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The digest of its config.
    pub id: Digest,
    /// The manifest it came with or was last sent as.
    pub manifest: Option<Descriptor>,
    /// Its layers by diff ID, lowest first.
    pub layers: Vec<Digest>,
}

impl Onlooker {
    /// Looks at the store below `root`, which must be there.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join("berth.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let db = Connection::open_with_flags(&path, flags)?;
            db.busy_timeout(PATIENCE)?;
            // A database that is none, or another program's, says so now.
            db.query_row("SELECT COUNT(*) FROM image_name", [], |row| {
                row.get::<_, i64>(0)
            })?;
            Ok(db)
        };
        Ok(Self {
            db: Mutex::new(open().map_err(|e| failed(&path, e))?),
            root: root.to_owned(),
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        read(&db).map_err(|e| failed(&self.root, e))
    }

    /// All names `name:tag`, sorted.
    pub fn tags(&self) -> Result<Vec<Reference>> {
        let names = self.read(|db| {
            db.prepare_cached("SELECT name FROM image_name WHERE kind = 'tag' ORDER BY name")?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The image that `name` points at.
    pub fn image(&self, name: &Reference) -> Result<Option<Seen>> {
        type Row = (String, Option<String>, Option<String>, Option<i64>);
        let found: Option<(Row, Vec<String>)> = self.read(|db| {
            let row: Option<Row> = db
                .prepare_cached(
                    "SELECT i.id, manifest_media_type, manifest_digest, manifest_size
                     FROM image_name n JOIN image i ON i.id = n.image WHERE n.name = ?1",
                )?
                .query_row(params![name.to_string()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let Some(row) = row else { return Ok(None) };
            let layers = db
                .prepare_cached(
                    "SELECT diff_id FROM image_layer WHERE image = ?1 ORDER BY position",
                )?
                .query_map(params![row.0], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Some((row, layers)))
        })?;
        let Some(((id, media_type, digest, size), layers)) = found else {
            return Ok(None);
        };
        let manifest = match (media_type, digest) {
            (Some(media_type), Some(digest)) => Some(Descriptor::new(
                media_type,
                parse(&digest)?,
                size.unwrap_or(0).unsigned_abs(),
            )),
            _ => None,
        };
        Ok(Some(Seen {
            id: parse(&id)?,
            manifest,
            layers: layers.iter().map(|l| parse(l)).collect::<Result<_>>()?,
        }))
    }

    /// A blob as it travelled, and its bytes.
    pub fn blob(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let dir = self.root.join("content").join(digest.algorithm().as_str());
        open(&dir.join(digest.hex()))
    }

    /// The uncompressed tar of a layer, and its bytes: it is kept beside an index and beside a directory.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<(File, u64)>> {
        let dir = self.root.join("layers").join(diff_id.hex());
        open(&dir.join("layer.tar"))
    }
}

fn open(path: &Path) -> Result<Option<(File, u64)>> {
    let opened = File::open(path).and_then(|file| {
        let size = file.metadata()?.len();
        Ok((file, size))
    });
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format_args!("cannot open {}", path.display()), e)),
    }
}

fn parse(text: &str) -> Result<Digest> {
    text.parse()
        .map_err(|e| Error::new(ErrorKind::Internal, format!("the image database: {e}")))
}

fn failed(path: &Path, error: rusqlite::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("cannot look into the store {}: {error}", path.display()),
    )
}
