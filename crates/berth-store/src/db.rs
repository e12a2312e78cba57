//! The store's database: one SQLite connection behind one lock.
//!
//! WAL with `synchronous=NORMAL`: a commit survives the death of the process without a sync of its
//! own. Where a name is acknowledged to a user it is put on disk as well
//! ([`Db::write_durable`]). A database that cannot be read is moved aside and said; the store opens
//! with an empty one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::{Error, ErrorKind, Result, roster, schema};

/// A handle of the database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Db(Arc<Mutex<Connection>>);

/// An opened database, and where the unreadable one went if there was one.
pub(crate) struct Opened {
    pub(crate) db: Db,
    pub(crate) moved_aside: Option<PathBuf>,
}

impl Db {
    /// Opens (or makes) the database at `path`.
    pub(crate) fn open(path: &Path) -> Result<Opened> {
        match connect(path) {
            Ok(connection) => Ok(Opened {
                db: Db::new(connection),
                moved_aside: None,
            }),
            Err(Failed::Corrupt(why)) => {
                let aside = move_aside(path)?;
                tracing::error!(path = %path.display(), aside = %aside.display(), %why, "the image database is damaged: moved aside, starting with an empty one");
                let connection = connect(path).map_err(|e| e.into_error(path))?;
                Ok(Opened {
                    db: Db::new(connection),
                    moved_aside: Some(aside),
                })
            }
            Err(other) => Err(other.into_error(path)),
        }
    }

    fn new(connection: Connection) -> Self {
        Db(Arc::new(Mutex::new(connection)))
    }

    /// Runs queries.
    pub(crate) fn read<T>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        run(&connection).map_err(failed)
    }

    /// Runs `run` as one transaction, which survives the death of the process.
    pub(crate) fn write<T>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        transact(&mut connection, run).map_err(failed)
    }

    /// Moves the log into the database, so that it takes no room. Readers elsewhere may be in the way;
    /// then it is done the next time.
    pub(crate) fn shorten_log(&self) {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = done {
            tracing::debug!(%error, "the database's log cannot be shortened now");
        }
    }

    /// The same, and on disk when it returns.
    pub(crate) fn write_durable<T>(
        &self,
        run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        let outcome = transact(&mut connection, run);
        let back = connection.pragma_update(None, "synchronous", "NORMAL");
        outcome
            .and_then(|value| back.map(|()| value))
            .map_err(failed)
    }
}

fn transact<T>(
    connection: &mut Connection,
    run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = run(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

enum Failed {
    Corrupt(String),
    Newer(i64),
    Sqlite(rusqlite::Error),
}

impl Failed {
    fn into_error(self, path: &Path) -> Error {
        let at = path.display();
        match self {
            Failed::Corrupt(why) => Error::new(
                ErrorKind::Internal,
                format!("the image database {at} is damaged: {why}"),
            ),
            Failed::Newer(version) => Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the image database {at} has version {version}: it was written by a newer berth"
                ),
            ),
            Failed::Sqlite(error) => {
                let error = failed(error);
                Error::new(error.kind(), format!("cannot open {at}: {error}"))
            }
        }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Failed::Corrupt(error.to_string())
            }
            _ => Failed::Sqlite(error),
        }
    }
}

fn connect(path: &Path) -> std::result::Result<Connection, Failed> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Failed::Corrupt(verdict));
    }
    migrate(&mut connection)?;
    // Whole pages may hold texts that are none.
    match roster::entries(&connection) {
        Ok(_) => Ok(connection),
        Err(error) => Err(Failed::Corrupt(error.to_string())),
    }
}

/// Brings the schema from the version it has to the newest, one transaction a step.
fn migrate(connection: &mut Connection) -> std::result::Result<(), Failed> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version)
        .ok()
        .filter(|done| *done <= schema::MIGRATIONS.len())
        .ok_or(Failed::Newer(version))?;
    for (at, step) in schema::MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Renames the database and its companions to `NAME.damaged-N`.
fn move_aside(path: &Path) -> Result<PathBuf> {
    let name = |suffix: &str| {
        let mut text = path.as_os_str().to_owned();
        text.push(suffix);
        PathBuf::from(text)
    };
    let mut number = 1;
    while name(&format!(".damaged-{number}")).exists() {
        number += 1;
    }
    let aside = name(&format!(".damaged-{number}"));
    for companion in ["-wal", "-shm"] {
        let to = name(&format!(".damaged-{number}{companion}"));
        // Not every database has companions.
        let _ = fs::rename(name(companion), to);
    }
    fs::rename(path, &aside).map_err(|e| {
        Error::io(
            format_args!("cannot move the damaged {} aside", path.display()),
            e,
        )
    })?;
    Ok(aside)
}

/// What SQLite says, with a full disk told apart.
pub(crate) fn failed(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::NoSpace,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("image database: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_database_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("berth.db");
        fs::write(&path, vec![0x5a; 8192]).unwrap();
        let opened = Db::open(&path).unwrap();
        let aside = opened.moved_aside.unwrap();
        assert_eq!(fs::read(&aside).unwrap(), vec![0x5a; 8192]);
        let images: i64 = opened
            .db
            .read(|c| c.query_row("SELECT count(*) FROM image", [], |r| r.get(0)))
            .unwrap();
        assert_eq!(images, 0);
        drop(opened.db);
        assert!(Db::open(&path).unwrap().moved_aside.is_none());
    }

    #[test]
    fn a_newer_database_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("berth.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        drop(connection);
        let error = Db::open(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("newer berth"), "{error}");
    }

    #[test]
    fn a_failed_transaction_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("berth.db")).unwrap().db;
        let outcome = db.write_durable(|tx| {
            tx.execute("INSERT INTO record VALUES ('a', 'b', x'00', 0)", [])?;
            tx.execute("INSERT INTO nowhere VALUES (1)", [])
        });
        assert!(outcome.is_err());
        let records: i64 = db
            .read(|c| c.query_row("SELECT count(*) FROM record", [], |r| r.get(0)))
            .unwrap();
        assert_eq!(records, 0);
    }
}
