//! What nobody needs any more: found and taken out of the record in small steps, so that no request
//! waits long for a collection.

use super::sql::{self, Connection, Transaction};
use super::{limit, now, unsigned};

/// A blob whose row is gone or about to go.
#[derive(Debug)]
pub(crate) struct Aged {
    pub(crate) digest: String,
    pub(crate) size: u64,
    /// The object with its bytes; empty where a file has them.
    pub(crate) key: String,
}

/// A manifest that no tag, index or subject holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Untagged {
    pub(crate) repository: String,
    pub(crate) digest: String,
    pub(crate) pushed: i64,
}

/// A blob that a repository has without needing it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unneeded {
    pub(crate) repository: String,
    pub(crate) digest: String,
}

/// What none of a repository's manifests needs and nobody touched since `before`, after `last`, in
/// order.
pub(crate) fn unneeded(
    connection: &Connection,
    before: i64,
    last: &Unneeded,
    count: usize,
) -> sql::Result<Vec<Unneeded>> {
    connection.all(
        "SELECT repository, digest FROM link l WHERE (repository, digest) > (?1, ?2) AND touched < ?3
         AND NOT EXISTS (SELECT 1 FROM needs n WHERE n.repository = l.repository AND n.digest = l.digest)
         ORDER BY repository, digest LIMIT ?4",
        &[&last.repository, &last.digest, &before, &limit(count)],
        |row| {
            Ok(Unneeded {
                repository: row.get(0)?,
                digest: row.get(1)?,
            })
        },
    )
}

/// Takes the blob from its repository if it is still as [`unneeded`] found it.
pub(crate) fn unlink_unneeded(
    tx: &Transaction,
    found: &Unneeded,
    before: i64,
) -> sql::Result<bool> {
    tx.execute(
        "DELETE FROM link WHERE repository = ?1 AND digest = ?2 AND touched < ?3
         AND NOT EXISTS (SELECT 1 FROM needs n WHERE n.repository = ?1 AND n.digest = ?2)",
        &[&found.repository, &found.digest, &before],
    )
    .map(|n| n > 0)
}

/// Blobs that no repository has and nobody touched since `before`.
pub(crate) fn unlinked(
    connection: &Connection,
    before: i64,
    count: usize,
) -> sql::Result<Vec<Aged>> {
    connection.all(
        "SELECT digest, size, key FROM blob b WHERE touched < ?1
         AND NOT EXISTS (SELECT 1 FROM link l WHERE l.digest = b.digest) LIMIT ?2",
        &[&before, &limit(count)],
        |row| {
            Ok(Aged {
                digest: row.get(0)?,
                size: row.get(1).map(unsigned)?,
                key: row.get(2)?,
            })
        },
    )
}

/// Takes the blob out of the record if it is still as [`unlinked`] found it.
pub(crate) fn forget_blob(tx: &Transaction, digest: &str, before: i64) -> sql::Result<bool> {
    tx.execute(
        "DELETE FROM blob WHERE digest = ?1 AND touched < ?2
         AND NOT EXISTS (SELECT 1 FROM link l WHERE l.digest = blob.digest)",
        &[&digest, &before],
    )
    .map(|n| n > 0)
}

/// Manifests pushed before `before` that nothing holds, after `last`, in order.
pub(crate) fn untagged(
    connection: &Connection,
    before: i64,
    last: &Untagged,
    count: usize,
) -> sql::Result<Vec<Untagged>> {
    connection.all(
        "SELECT repository, digest, pushed FROM manifest m
         WHERE (repository, digest) > (?1, ?2) AND pushed < ?3
         AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.repository = m.repository AND t.digest = m.digest)
         AND NOT EXISTS (SELECT 1 FROM needs n WHERE n.repository = m.repository AND n.digest = m.digest)
         AND (m.subject IS NULL OR NOT EXISTS (
             SELECT 1 FROM manifest s WHERE s.repository = m.repository AND s.digest = m.subject))
         ORDER BY repository, digest LIMIT ?4",
        &[&last.repository, &last.digest, &before, &limit(count)],
        |row| {
            Ok(Untagged {
                repository: row.get(0)?,
                digest: row.get(1)?,
                pushed: row.get(2)?,
            })
        },
    )
}

/// Whether a tag, an index or its subject holds the manifest.
pub(crate) fn is_held(
    connection: &Connection,
    repository: &str,
    digest: &str,
) -> sql::Result<bool> {
    let held = connection.value(
        "SELECT EXISTS (SELECT 1 FROM tag WHERE repository = ?1 AND digest = ?2)
             OR EXISTS (SELECT 1 FROM needs WHERE repository = ?1 AND digest = ?2)
             OR EXISTS (SELECT 1 FROM manifest m JOIN manifest s
                 ON s.repository = m.repository AND s.digest = m.subject
                 WHERE m.repository = ?1 AND m.digest = ?2)",
        &[&repository, &digest],
    )?;
    Ok(held == Some(true))
}

/// Forgets repositories that have been empty since `before`.
pub(crate) fn forget_empty(tx: &Transaction, before: i64) -> sql::Result<usize> {
    tx.execute(
        "DELETE FROM repository WHERE created < ?1
         AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.repository = repository.name)
         AND NOT EXISTS (SELECT 1 FROM link l WHERE l.repository = repository.name)",
        &[&before.min(now())],
    )
}

/// Whether the record tells of the blob.
pub(crate) fn knows_blob(connection: &Connection, digest: &str) -> sql::Result<bool> {
    connection.any("SELECT 1 FROM blob WHERE digest = ?1", &[&digest])
}
