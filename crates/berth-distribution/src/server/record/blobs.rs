//! Blobs, and which repository has them.

use berth_spec::Digest;

use super::sql::{self, Connection, Transaction};
use super::{ensure_repository, now, signed, unsigned};

/// What became of a wish to mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// The repository has the blob now; its size.
    Yes(u64),
    /// Nobody who may be asked has it.
    No,
}

/// Where a blob's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) size: u64,
    /// The object that has them; empty where the file of the digest's name does.
    pub(crate) key: String,
}

/// The blob `digest` of `repository`, if it has it.
pub(crate) fn held(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> sql::Result<Option<Held>> {
    connection.first(
        "SELECT b.size, b.key FROM link l JOIN blob b ON b.digest = l.digest
         WHERE l.repository = ?1 AND l.digest = ?2",
        &[&repository, &digest.as_str()],
        |row| {
            Ok(Held {
                size: row.get(0).map(unsigned)?,
                key: row.get(1)?,
            })
        },
    )
}

/// The size of `digest` in `repository`, if it has it.
pub(crate) fn size_in(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> sql::Result<Option<u64>> {
    held(connection, repository, digest).map(|found| found.map(|held| held.size))
}

/// The size of `digest`, if anybody has it.
pub(crate) fn size(connection: &Connection, digest: &Digest) -> sql::Result<Option<u64>> {
    connection.first(
        "SELECT size FROM blob WHERE digest = ?1",
        &[&digest.as_str()],
        |row| row.get(0).map(unsigned),
    )
}

/// The repositories that have `digest`, a few of them.
pub(crate) fn holders(connection: &Connection, digest: &Digest) -> sql::Result<Vec<String>> {
    connection.all(
        "SELECT repository FROM link WHERE digest = ?1 LIMIT 64",
        &[&digest.as_str()],
        |row| row.get(0),
    )
}

/// Records that `repository` has `digest`, whose bytes are on disk under their name.
pub(crate) fn add(
    tx: &Transaction,
    repository: &str,
    digest: &Digest,
    size: u64,
) -> sql::Result<()> {
    add_at(tx, repository, digest, size, "").map(drop)
}

/// Records that `repository` has `digest`, whose bytes are in the object `key`; whether they are the
/// ones that count. Where the blob was there before, its own object stays the one.
pub(crate) fn add_at(
    tx: &Transaction,
    repository: &str,
    digest: &Digest,
    size: u64,
    key: &str,
) -> sql::Result<bool> {
    ensure_repository(tx, repository)?;
    let counts: Option<String> = tx.value(
        "INSERT INTO blob (digest, size, touched, key) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (digest) DO UPDATE SET touched = excluded.touched RETURNING key",
        &[&digest.as_str(), &signed(size), &now(), &key],
    )?;
    tx.execute(
        "INSERT INTO link (repository, digest, touched) VALUES (?1, ?2, ?3)
         ON CONFLICT (repository, digest) DO UPDATE SET touched = excluded.touched",
        &[&repository, &digest.as_str(), &now()],
    )?;
    Ok(counts.as_deref() == Some(key))
}

/// Gives `to` the blob that `from` has.
pub(crate) fn mount(
    tx: &Transaction,
    from: &str,
    to: &str,
    digest: &Digest,
) -> sql::Result<Mounted> {
    let Some(held) = held(tx, from, digest)? else {
        return Ok(Mounted::No);
    };
    add_at(tx, to, digest, held.size, &held.key)?;
    Ok(Mounted::Yes(held.size))
}

/// Somebody has just been told that `repository` has the blob: it stays for the time of grace.
pub(crate) fn touch(tx: &Transaction, repository: &str, digest: &Digest) -> sql::Result<()> {
    tx.execute(
        "UPDATE link SET touched = ?3 WHERE repository = ?1 AND digest = ?2",
        &[&repository, &digest.as_str(), &now()],
    )
    .map(drop)
}

/// When somebody last had a new use for the blob in `repository`.
pub(crate) fn touched(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> sql::Result<Option<i64>> {
    connection.value(
        "SELECT touched FROM link WHERE repository = ?1 AND digest = ?2",
        &[&repository, &digest.as_str()],
    )
}

/// Whether a manifest of `repository` needs `digest`.
pub(crate) fn is_needed(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> sql::Result<bool> {
    connection.any(
        "SELECT 1 FROM needs WHERE repository = ?1 AND digest = ?2 LIMIT 1",
        &[&repository, &digest.as_str()],
    )
}

/// Takes the blob from `repository`; whether it was there. The bytes are the collector's.
pub(crate) fn unlink(tx: &Transaction, repository: &str, digest: &Digest) -> sql::Result<bool> {
    tx.execute(
        "DELETE FROM link WHERE repository = ?1 AND digest = ?2",
        &[&repository, &digest.as_str()],
    )
    .map(|n| n > 0)
}
