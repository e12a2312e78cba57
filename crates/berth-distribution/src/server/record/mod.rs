//! The registry's record: which repositories there are, what each has, which tag means what.
//!
//! SQLite in WAL mode with `synchronous=FULL`: what was answered with 201 or 202 is on disk. One
//! connection writes, a few read, so that no reader waits for a writer's sync. Everything here
//! blocks; it is called from threads that may.

pub(crate) mod blobs;
pub(crate) mod manifests;
mod schema;
pub(crate) mod statistics;
pub(crate) mod sweep;
pub(crate) mod tags;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

pub(crate) use manifests::{Manifest, NewManifest};

use super::fault::{Fault, Reply};

/// Reading connections. More than the machine's threads for requests gain nothing.
const READERS: usize = 2;

/// The record of one registry.
pub(crate) struct Record {
    writer: Mutex<Connection>,
    readers: Vec<Mutex<Connection>>,
}

impl Record {
    /// Opens or makes the database at `path`.
    pub(crate) fn open(path: &Path) -> Reply<Self> {
        let failed =
            |e: rusqlite::Error| Fault::internal(format_args!("cannot open {}", path.display()), e);
        let mut writer = Connection::open(path).map_err(failed)?;
        tune(&writer).map_err(failed)?;
        schema::migrate(&mut writer).map_err(failed)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let readers = (0..READERS)
            .map(|_| {
                let reader = Connection::open_with_flags(path, flags).map_err(failed)?;
                tune(&reader).map_err(failed)?;
                Ok(Mutex::new(reader))
            })
            .collect::<Reply<_>>()?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers,
        })
    }

    /// Runs `read` on a connection that sees the last committed state.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Reply<T> {
        for reader in &self.readers[1..] {
            if let Ok(connection) = reader.try_lock() {
                return Ok(read(&connection)?);
            }
        }
        let connection = self.readers[0]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(read(&connection)?)
    }

    /// Runs `write` as one transaction: all of it happens, on disk, or nothing.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&Transaction) -> Reply<T>) -> Reply<T> {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = write(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    // Half a MiB of pages each: an idle registry is small, the kernel has the rest.
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-512; PRAGMA foreign_keys=OFF;",
    )
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Makes the repository known, if it is not.
fn ensure_repository(tx: &Transaction, repository: &str) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO repository (name, created) VALUES (?1, ?2)")?
        .execute((repository, now()))?;
    Ok(())
}

/// Whether anything was ever stored in `repository`.
pub(crate) fn has_repository(connection: &Connection, repository: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM repository WHERE name = ?1")?
        .query_row([repository], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

/// Up to `count` repositories that have a manifest, after `last`, in order.
pub(crate) fn repositories(
    connection: &Connection,
    last: &str,
    count: usize,
) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT name FROM repository r WHERE name > ?1
             AND EXISTS (SELECT 1 FROM manifest m WHERE m.repository = r.name)
             ORDER BY name LIMIT ?2",
        )?
        .query_map((last, limit(count)), |row| row.get(0))?
        .collect()
}

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sizes are stored as SQLite has numbers.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn unsigned(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}
