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

mod salvage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::{Connection, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::reserve::Reserve;
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
    /// Cuts the log short, beside those who write.
    keeper: Mutex<Connection>,
    /// The log that every change goes to first, to be synced while others write. SQLite locks the
    /// other two files of a database, so that closing this one takes nothing from it.
    log: File,
    /// Told of every change.
    changed: Notify,
    /// Room that a record may take on a full disk.
    reserve: OnceLock<Arc<Reserve>>,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS record (
        kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (kind, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS broken (
        kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
";

/// The digest of a record: of what it is and whose, too.
fn digest(kind: &str, id: &str, value: &[u8]) -> String {
    let mut hasher = berth_store::hash::Hasher::new();
    hasher.update(format!("{kind}\0{id}\0").as_bytes());
    hasher.update(value);
    hasher.finish().to_string()
}

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
    /// Opens the database at `path`, or makes it. A damaged one is moved aside, and what can still be
    /// read of it taken over; the text says so.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<String>)> {
        let error = match Self::try_open(path) {
            Ok(db) => return Ok((db, None)),
            Err(error) if path.exists() && error.kind() == crate::ErrorKind::Internal => error,
            Err(error) => return Err(error),
        };
        let aside = path.with_extension(format!("broken-{}", jiff::Timestamp::now().as_second()));
        let beside = |path: &Path, suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        std::fs::rename(path, &aside)
            .map_err(|e| Error::io(format_args!("cannot move {} aside", path.display()), e))?;
        // The log belongs to it, and holds what was written last; not every database has one.
        let _ = std::fs::rename(beside(path, "-wal"), beside(&aside, "-wal"));
        let _ = std::fs::remove_file(beside(path, "-shm"));
        let db = Self::try_open(path)?;
        let found = salvage::rows(&aside);
        let note = format!(
            "the engine's records were damaged ({error}) and have been moved to {}; {} of them were found again",
            aside.display(),
            found.len()
        );
        for (kind, id, value, digest) in found {
            db.lock()
                .execute(
                    "INSERT INTO record (kind, id, value, digest) VALUES (?1, ?2, ?3, ?4)",
                    params![kind, id, value, digest],
                )
                .map_err(failed("write"))?;
        }
        db.sync()?;
        Ok((db, Some(note)))
    }

    /// Whether every row can be read.
    fn check(connection: &Connection) -> rusqlite::Result<()> {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(rusqlite::Error::InvalidColumnName(verdict));
        }
        let mut statement = connection.prepare("SELECT kind, id, value, digest FROM record")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            salvage::columns(row)?;
        }
        Ok(())
    }

    fn try_open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).map_err(failed("open"))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;
                 PRAGMA cache_size=-512;",
            )
            .and_then(|()| connection.execute_batch(SCHEMA))
            .and_then(|()| Self::check(&connection))
            .map_err(failed("open"))?;
        let keeper = Connection::open(path).map_err(failed("open"))?;
        // It opens its files at the first use: now.
        keeper
            .query_row("PRAGMA user_version", [], |_| Ok(()))
            .map_err(failed("open"))?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = File::open(&log)
            .map_err(|e| Error::io(format_args!("cannot open {}", Path::new(&log).display()), e))?;
        Ok(Self(Arc::new(Parts {
            connection: Mutex::new(connection),
            keeper: Mutex::new(keeper),
            log,
            changed: Notify::new(),
            reserve: OnceLock::new(),
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

    /// From now on a record that finds no room may take what `reserve` holds.
    pub(crate) fn rely_on(&self, reserve: Arc<Reserve>) {
        // Of two the first stays: they are of one disk.
        let _ = self.0.reserve.set(reserve);
    }

    /// Makes all changes of the batch.
    pub(crate) fn write(&self, batch: Batch) -> Result<()> {
        match self.try_write(&batch) {
            Err(error)
                if error.kind() == crate::ErrorKind::NoSpace
                    && self.0.reserve.get().is_some_and(|reserve| reserve.give()) =>
            {
                self.try_write(&batch)
            }
            written => written,
        }
    }

    fn try_write(&self, batch: &Batch) -> Result<()> {
        let change = |c: &Connection, (kind, id, value): &Change| {
            let Some(value) = value else {
                return c
                    .prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2")?
                    .execute(params![kind.as_str(), id]);
            };
            let digest = digest(kind.as_str(), id, value);
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

    /// Moves records of no kind that there is aside; their IDs.
    pub(crate) fn set_strays_aside(&self) -> Result<Vec<String>> {
        let connection = self.lock();
        let strays = connection
            .prepare(
                "INSERT INTO broken (kind, id, value) SELECT kind, id, value FROM record
                 WHERE kind NOT IN ('container', 'network', 'volume', 'exec', 'engine') RETURNING id",
            )
            .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
            .map_err(failed("repair"))?;
        connection
            .execute(
                "DELETE FROM record WHERE kind NOT IN ('container', 'network', 'volume', 'exec', 'engine')",
                [],
            )
            .map_err(failed("repair"))?;
        Ok(strays)
    }

    /// Remembers that the record of `id` is lost, so that its files stay.
    pub(crate) fn note_lost(&self, kind: Kind, id: &str) -> Result<()> {
        self.lock()
            .execute(
                "INSERT INTO broken (kind, id) VALUES (?1, ?2)",
                params![kind.as_str(), id],
            )
            .map(drop)
            .map_err(failed("repair"))
    }

    /// IDs of records that were ever moved aside or lost, by what they were kept under and by what they
    /// say themselves.
    pub(crate) fn aside(&self) -> Result<Vec<String>> {
        let rows: Vec<(String, Option<Vec<u8>>)> = self
            .lock()
            .prepare("SELECT id, value FROM broken")
            .and_then(|mut s| {
                s.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(failed("read"))?;
        let mut ids = Vec::new();
        for (id, value) in rows {
            let record = value.and_then(|v| serde_json::from_slice::<serde_json::Value>(&v).ok());
            ids.extend(record.and_then(|r| Some(r.get("id")?.as_str()?.to_owned())));
            ids.push(id);
        }
        Ok(ids)
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
        for (id, value, sum) in rows {
            let whole = digest(kind.as_str(), &id, &value) == sum;
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

    /// The same, and keeps the log short. Blocks, for syncs of two files: on a connection of its own, so that
    /// who writes meanwhile does not wait.
    pub(crate) fn flush(&self) -> Result<()> {
        let keeper = self.0.keeper.lock();
        let keeper = keeper.unwrap_or_else(PoisonError::into_inner);
        keeper
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(failed("write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_the_log_short_holds_no_writer_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        let (db, _) = Db::open(&path).unwrap();
        db.put(Kind::Volume, "a", &"a").unwrap();
        let writing = db.lock();
        db.flush().unwrap();
        drop(writing);
        let (kept, _) = db.all::<String>(Kind::Volume).unwrap();
        assert_eq!(kept, ["a"]);
        // What is in the file itself, without the log.
        let alone = dir.path().join("alone.db");
        std::fs::copy(&path, &alone).unwrap();
        let (alone, note) = Db::open(&alone).unwrap();
        assert_eq!(note, None);
        assert_eq!(alone.all::<String>(Kind::Volume).unwrap().0, ["a"]);
    }

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

    #[test]
    fn a_flipped_bit_costs_one_object_and_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        let ids: Vec<String> = (0..40).map(|n| format!("{n:064}")).collect();
        {
            let (db, _) = Db::open(&path).unwrap();
            for id in &ids {
                let record = serde_json::json!({"id": id, "filler": "x".repeat(900)});
                db.put(Kind::Container, id, &record).unwrap();
            }
            db.flush().unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let mut lost_most = 0;
        for at in (0..whole.len()).step_by(499) {
            let mut torn = whole.clone();
            torn[at] ^= 1 << (at % 8);
            std::fs::write(&path, torn).unwrap();
            for suffix in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(dir.path().join(format!("engine.db{suffix}")));
            }
            let (db, note) = Db::open(&path).unwrap();
            let strays = db.set_strays_aside().unwrap();
            let (good, broken) = db.all::<serde_json::Value>(Kind::Container).unwrap();
            for record in &good {
                let id = record["id"].as_str().unwrap();
                let expected = serde_json::json!({"id": id, "filler": "x".repeat(900)});
                assert_eq!(
                    *record, expected,
                    "byte {at}: a damaged record is taken for a good one"
                );
                assert!(ids.iter().any(|i| i == id));
            }
            let lost = ids.len() - good.len();
            if note.is_none() {
                assert!(lost <= 1, "byte {at}: {lost} lost");
                assert_eq!(
                    lost,
                    broken.len() + strays.len(),
                    "byte {at}: lost in silence"
                );
            }
            lost_most = lost_most.max(lost);
        }
        // The first page says what a database holds, the root page where: both cost all there is.
        assert!(lost_most <= ids.len());
    }
}
