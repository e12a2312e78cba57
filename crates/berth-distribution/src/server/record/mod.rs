//! The registry's record: which repositories there are, what each has, which tag means what.
//!
//! [`Record`] is either of two databases. SQLite is the embedded one: WAL mode with
//! `synchronous=FULL`, so what was answered with 201 or 202 is on disk; one connection writes, a few
//! read, so that no reader waits for a writer's sync. PostgreSQL ([`postgres`]) is shared by any number
//! of replicas. What is asked of either is written once, with [`sql`]. Everything here blocks; it is
//! called from threads that may.

pub(crate) mod blobs;
pub(crate) mod manifests;
mod postgres;
mod schema;
pub(crate) mod secrets;
pub(crate) mod sql;
pub(crate) mod statistics;
pub(crate) mod sweep;
pub(crate) mod tags;
pub(crate) mod uploads;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{OpenFlags, TransactionBehavior};

pub(crate) use manifests::{Manifest, NewManifest};
pub(crate) use postgres::Postgres;
pub use postgres::PostgresSettings;
pub(crate) use sql::{Connection, Transaction};

use super::fault::{Fault, Reply};

/// Reading connections. More than the machine's threads for requests gain nothing.
const READERS: usize = 2;

/// The record of one registry.
pub(crate) enum Record {
    /// In a file of this registry's own.
    Sqlite(Sqlite),
    /// In a server that other replicas use as well.
    Postgres(Postgres),
}

impl Record {
    /// Opens or makes the database at `path`.
    pub(crate) fn open(path: &Path) -> Reply<Self> {
        Sqlite::open(path).map(Record::Sqlite)
    }

    /// Whether other processes may change it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Record::Postgres(_))
    }

    /// Runs `read` on a connection that sees the last committed state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> sql::Result<T>) -> Reply<T> {
        Ok(match self {
            Record::Sqlite(record) => record.read(read)?,
            Record::Postgres(record) => record.read(read)?,
        })
    }

    /// Runs `write` as one transaction, after and before all others: all of it happens, durably, or
    /// nothing.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&Transaction) -> Reply<T>) -> Reply<T> {
        match self {
            Record::Sqlite(record) => record.write(write),
            Record::Postgres(record) => record.write(write),
        }
    }
}

/// The embedded record.
pub(crate) struct Sqlite {
    writer: Mutex<rusqlite::Connection>,
    readers: Vec<Mutex<rusqlite::Connection>>,
}

impl Sqlite {
    fn open(path: &Path) -> Reply<Self> {
        let failed =
            |e: rusqlite::Error| Fault::internal(format_args!("cannot open {}", path.display()), e);
        let mut writer = rusqlite::Connection::open(path).map_err(failed)?;
        tune(&writer).map_err(failed)?;
        schema::migrate(&mut writer).map_err(failed)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let readers = (0..READERS)
            .map(|_| {
                let reader = rusqlite::Connection::open_with_flags(path, flags).map_err(failed)?;
                tune(&reader).map_err(failed)?;
                Ok(Mutex::new(reader))
            })
            .collect::<Reply<_>>()?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers,
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> sql::Result<T>) -> sql::Result<T> {
        for reader in &self.readers[1..] {
            if let Ok(connection) = reader.try_lock() {
                return read(&Connection::Sqlite(&connection));
            }
        }
        let connection = self.readers[0]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        read(&Connection::Sqlite(&connection))
    }

    fn write<T>(&self, write: impl FnOnce(&Transaction) -> Reply<T>) -> Reply<T> {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sql::Error::from)?;
        let value = write(&Transaction(Connection::Sqlite(&transaction)))?;
        transaction.commit().map_err(sql::Error::from)?;
        Ok(value)
    }
}

fn tune(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
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
fn ensure_repository(tx: &Transaction, repository: &str) -> sql::Result<()> {
    tx.execute(
        "INSERT INTO repository (name, created) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &[&repository, &now()],
    )
    .map(drop)
}

/// Whether anything was ever stored in `repository`.
pub(crate) fn has_repository(connection: &Connection, repository: &str) -> sql::Result<bool> {
    connection.any("SELECT 1 FROM repository WHERE name = ?1", &[&repository])
}

/// Up to `count` repositories that have a manifest, after `last`, in order.
pub(crate) fn repositories(
    connection: &Connection,
    last: &str,
    count: usize,
) -> sql::Result<Vec<String>> {
    connection.all(
        "SELECT name FROM repository r WHERE name > ?1
         AND EXISTS (SELECT 1 FROM manifest m WHERE m.repository = r.name)
         ORDER BY name LIMIT ?2",
        &[&last, &limit(count)],
        |row| row.get(0),
    )
}

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sizes are stored as the databases have numbers.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn unsigned(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}
