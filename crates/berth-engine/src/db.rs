//! What the engine remembers: one row of JSON for each container, network, volume and exec.
//!
//! ```text
//! <root>/engine.db    record(kind, id, value, digest), broken(kind, id, value, at)
//! ```
//!
//! Each row carries the digest of its value: a row that does not match, or that cannot be read, is
//! moved to `broken` and reported; it costs that object and no other. Writes do not wait for the
//! disk (WAL, `synchronous=NORMAL`): the end of the process loses nothing. [`Db::sync`] is for what
//! must not be lost with the power either; behind the scenes it follows every change at once, so that
//! a power cut costs no more than the last moments ([`Db::changed`]).

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::{Error, Result};

/// Which sort of object a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Network,
    Volume,
    Exec,
    /// What the engine is: its ID.
    Engine,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Exec => "exec",
            Kind::Engine => "engine",
        }
    }
}

/// Changes of records that are kept all at once or not at all.
#[derive(Default)]
pub(crate) struct Batch(Vec<Change>);

/// The record of an ID, or that there is none.
type Change = (Kind, String, Option<Vec<u8>>);

impl Batch {
    /// Adds the record of `id`.
    pub(crate) fn put(&mut self, kind: Kind, id: &str, value: &impl Serialize) -> Result<()> {
        let value = serde_json::to_vec(value)
            .map_err(|e| Error::internal(format!("cannot write the record of {id}: {e}")))?;
        self.0.push((kind, id.to_owned(), Some(value)));
        Ok(())
    }

    /// Forgets the record of `id`.
    pub(crate) fn remove(&mut self, kind: Kind, id: &str) {
        self.0.push((kind, id.to_owned(), None));
    }
}

/// The database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Db(Arc<Parts>);

struct Parts {
    connection: Mutex<Connection>,
    /// The log that every change goes to first, to be synced while others write. SQLite locks the
    /// other two files of a database, so that closing this one takes nothing from it.
    log: File,
    /// Told of every change.
    changed: Notify,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS record (
        kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (kind, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS broken (
        kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
";

fn failed(attempt: &str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| {
        let full = matches!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DiskFull)
        );
        let kind = if full {
            crate::ErrorKind::NoSpace
        } else {
            crate::ErrorKind::Internal
        };
        Error::new(
            kind,
            format!("cannot {attempt} the engine's records: {error}"),
        )
    }
}

impl Db {
    /// Opens the database at `path`, or makes it. One that is no database at all is moved aside; the
    /// text says so.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<String>)> {
        match Self::try_open(path) {
            Ok(db) => Ok((db, None)),
            Err(error) if path.exists() => {
                let aside =
                    path.with_extension(format!("broken-{}", jiff::Timestamp::now().as_second()));
                std::fs::rename(path, &aside).map_err(|e| {
                    Error::io(format_args!("cannot move {} aside", path.display()), e)
                })?;
                for suffix in ["-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    // It belongs to the database that was moved.
                    let _ = std::fs::remove_file(name);
                }
                let note = format!(
                    "the engine's records could not be read ({error}) and were moved to {}",
                    aside.display()
                );
                Ok((Self::try_open(path)?, Some(note)))
            }
            Err(error) => Err(error),
        }
    }

    fn try_open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).map_err(failed("open"))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;
                 PRAGMA cache_size=-512;",
            )
            .and_then(|()| connection.execute_batch(SCHEMA))
            .map_err(failed("open"))?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = File::open(&log)
            .map_err(|e| Error::io(format_args!("cannot open {}", Path::new(&log).display()), e))?;
        Ok(Self(Arc::new(Parts {
            connection: Mutex::new(connection),
            log,
            changed: Notify::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        let connection = self.0.connection.lock();
        connection.unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `value` as the record of `id`, in place of what was there. Takes some tens of
    /// microseconds and waits for no disk.
    pub(crate) fn put(&self, kind: Kind, id: &str, value: &impl Serialize) -> Result<()> {
        let mut batch = Batch::default();
        batch.put(kind, id, value)?;
        self.write(batch)
    }

    /// Makes all changes of the batch.
    pub(crate) fn write(&self, batch: Batch) -> Result<()> {
        let change = |c: &Connection, (kind, id, value): &Change| {
            let Some(value) = value else {
                return c
                    .prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2")?
                    .execute(params![kind.as_str(), id]);
            };
            let digest = berth_store::hash::sha256(value).to_string();
            c.prepare_cached(
                "INSERT OR REPLACE INTO record (kind, id, value, digest) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![kind.as_str(), id, value, digest])
        };
        let mut connection = self.lock();
        let written = match &batch.0[..] {
            [] => Ok(()),
            [one] => change(&connection, one).map(drop),
            many => connection.transaction().and_then(|transaction| {
                for one in many {
                    change(&transaction, one)?;
                }
                transaction.commit()
            }),
        };
        drop(connection);
        written.map_err(failed("write"))?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Returns when something has been written since it last did.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Puts everything written so far on disk; who writes meanwhile does not wait. Blocks.
    pub(crate) fn sync(&self) -> Result<()> {
        let synced = self.0.log.sync_data();
        synced.map_err(|e| Error::io("cannot put the engine's records on disk", e))
    }

    /// Forgets the record of `id`.
    pub(crate) fn remove(&self, kind: Kind, id: &str) -> Result<()> {
        let mut batch = Batch::default();
        batch.remove(kind, id);
        self.write(batch)
    }

    /// All records of a kind, and the IDs of those that had to be moved aside.
    pub(crate) fn all<T: DeserializeOwned>(&self, kind: Kind) -> Result<(Vec<T>, Vec<String>)> {
        let rows: Vec<(String, Vec<u8>, String)> = {
            let connection = self.lock();
            let mut statement = connection
                .prepare_cached("SELECT id, value, digest FROM record WHERE kind = ?1 ORDER BY id")
                .map_err(failed("read"))?;
            statement
                .query_map([kind.as_str()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .and_then(Iterator::collect)
                .map_err(failed("read"))?
        };
        let (mut good, mut broken) = (Vec::new(), Vec::new());
        for (id, value, digest) in rows {
            let whole = berth_store::hash::sha256(&value).to_string() == digest;
            match serde_json::from_slice(&value) {
                Ok(record) if whole => good.push(record),
                _ => broken.push(id),
            }
        }
        for id in &broken {
            self.move_aside(kind, id)?;
        }
        Ok((good, broken))
    }

    fn move_aside(&self, kind: Kind, id: &str) -> Result<()> {
        let connection = self.lock();
        let moved = params![kind.as_str(), id];
        connection
            .execute(
                "INSERT INTO broken (kind, id, value) SELECT kind, id, value FROM record WHERE kind = ?1 AND id = ?2",
                moved,
            )
            .and_then(|_| connection.execute("DELETE FROM record WHERE kind = ?1 AND id = ?2", moved))
            .map(drop)
            .map_err(failed("repair"))
    }

    /// The same, and keeps the log short. Blocks.
    pub(crate) fn flush(&self) -> Result<()> {
        self.lock()
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(failed("write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_record_costs_one_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        {
            let (db, _) = Db::open(&path).unwrap();
            for id in ["a", "b", "c"] {
                db.put(Kind::Volume, id, &id).unwrap();
            }
            db.lock()
                .execute("UPDATE record SET value = X'2261' WHERE id = 'b'", [])
                .unwrap();
        }
        let (db, note) = Db::open(&path).unwrap();
        assert_eq!(note, None);
        let (good, broken) = db.all::<String>(Kind::Volume).unwrap();
        assert_eq!(
            (good, broken),
            (vec!["a".into(), "c".into()], vec!["b".into()])
        );
        let (_, broken) = db.all::<String>(Kind::Volume).unwrap();
        assert!(broken.is_empty());
        db.remove(Kind::Volume, "a").unwrap();
        db.sync().unwrap();
        db.flush().unwrap();
        assert_eq!(db.all::<String>(Kind::Volume).unwrap().0, ["c"]);
    }

    #[test]
    fn what_is_no_database_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        std::fs::write(
            &path,
            "not a database, not at all, really not one".repeat(99),
        )
        .unwrap();
        let (db, note) = Db::open(&path).unwrap();
        assert!(note.unwrap().contains("broken-"));
        assert!(db.all::<String>(Kind::Container).unwrap().0.is_empty());
    }
}
