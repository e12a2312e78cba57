//! Uploads that are on their way into an object store, and objects that are on their way out of it.
//!
//! Every object of the bucket is named by one row at any time: of an upload, of a blob, or of this
//! list of the doomed. So nothing is ever looked for by listing the bucket, and whatever a crash
//! interrupts is found again.

use berth_spec::Digest;

use super::sql::{self, Connection, Transaction};
use super::{limit, now, signed, unsigned};

/// How far an upload has come, as every replica may know it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// The object that it becomes.
    pub(crate) key: String,
    /// The store's name for the parts that belong together; empty before the first part.
    pub(crate) multipart: String,
    pub(crate) size: u64,
    /// What the store calls the parts so far.
    pub(crate) parts: Vec<String>,
    /// The object with the bytes after the last part; empty for none.
    pub(crate) tail: String,
    /// The digest of all bytes so far; nothing where it is not known.
    pub(crate) digest: Option<Digest>,
    /// Counts the changes.
    pub(crate) version: i64,
}

/// Records a new upload.
pub(crate) fn begin(
    tx: &Transaction,
    id: &str,
    repository: &str,
    progress: &Progress,
) -> sql::Result<()> {
    tx.execute(
        "INSERT INTO upload (id, repository, key, multipart, size, parts, tail, digest, version, touched)
         VALUES (?1, ?2, ?3, '', 0, '[]', '', '', 0, ?4)",
        &[&id, &repository, &progress.key, &now()],
    )
    .map(drop)
}

/// The upload `id` of `repository`.
pub(crate) fn get(
    connection: &Connection,
    repository: &str,
    id: &str,
) -> sql::Result<Option<Progress>> {
    connection.first(
        "SELECT key, multipart, size, parts, tail, digest, version FROM upload
         WHERE id = ?1 AND repository = ?2",
        &[&id, &repository],
        |row| {
            Ok(Progress {
                key: row.get(0)?,
                multipart: row.get(1)?,
                size: row.get(2).map(unsigned)?,
                parts: serde_json::from_str(&row.get::<String>(3)?).unwrap_or_default(),
                tail: row.get(4)?,
                digest: row.get::<String>(5)?.parse().ok(),
                version: row.get(6)?,
            })
        },
    )
}

/// Records that the upload has come from the version before `progress` to it; whether it had stood
/// there. It had not where another replica went on with it.
pub(crate) fn advance(tx: &Transaction, id: &str, progress: &Progress) -> sql::Result<bool> {
    let parts = serde_json::to_string(&progress.parts).unwrap_or_default();
    let digest = progress.digest.as_ref().map_or("", Digest::as_str);
    tx.execute(
        "UPDATE upload SET multipart = ?3, size = ?4, parts = ?5, tail = ?6, digest = ?7, version = ?8, touched = ?9,
         key = ?10 WHERE id = ?1 AND version = ?2",
        &[
            &id,
            &(progress.version - 1),
            &progress.multipart,
            &signed(progress.size),
            &parts,
            &progress.tail,
            &digest,
            &progress.version,
            &now(),
            &progress.key,
        ],
    )
    .map(|n| n > 0)
}

/// The upload has ended; whether it was there.
pub(crate) fn end(tx: &Transaction, id: &str) -> sql::Result<bool> {
    tx.execute("DELETE FROM upload WHERE id = ?1", &[&id])
        .map(|n| n > 0)
}

/// IDs and repositories of up to `count` uploads that nobody wrote to since `before`.
pub(crate) fn idle(
    connection: &Connection,
    before: i64,
    count: usize,
) -> sql::Result<Vec<(String, String)>> {
    connection.all(
        "SELECT id, repository FROM upload WHERE touched < ?1 LIMIT ?2",
        &[&before, &limit(count)],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// An object, or parts that never became one (`multipart` is not empty), that are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doomed {
    pub(crate) key: String,
    pub(crate) multipart: String,
}

/// Nobody needs the object any more.
pub(crate) fn doom(tx: &Transaction, doomed: &Doomed) -> sql::Result<()> {
    tx.execute(
        "INSERT INTO doomed (key, multipart) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &[&doomed.key, &doomed.multipart],
    )
    .map(drop)
}

/// Up to `count` objects that are to go, after `last`.
pub(crate) fn doomed(
    connection: &Connection,
    last: &Doomed,
    count: usize,
) -> sql::Result<Vec<Doomed>> {
    connection.all(
        "SELECT key, multipart FROM doomed WHERE (key, multipart) > (?1, ?2)
         ORDER BY key, multipart LIMIT ?3",
        &[&last.key, &last.multipart, &limit(count)],
        |row| {
            Ok(Doomed {
                key: row.get(0)?,
                multipart: row.get(1)?,
            })
        },
    )
}

/// The object is gone.
pub(crate) fn gone(tx: &Transaction, doomed: &Doomed) -> sql::Result<()> {
    tx.execute(
        "DELETE FROM doomed WHERE key = ?1 AND multipart = ?2",
        &[&doomed.key, &doomed.multipart],
    )
    .map(drop)
}
