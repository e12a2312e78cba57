//! Blobs, and which repository has them.

use berth_spec::Digest;
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{ensure_repository, now, signed, unsigned};

/// What became of a wish to mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// The repository has the blob now; its size.
    Yes(u64),
    /// Nobody who may be asked has it.
    No,
}

/// The size of `digest` in `repository`, if it has it.
pub(crate) fn size_in(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached(
            "SELECT b.size FROM link l JOIN blob b ON b.digest = l.digest
             WHERE l.repository = ?1 AND l.digest = ?2",
        )?
        .query_row((repository, digest.as_str()), |row| {
            row.get(0).map(unsigned)
        })
        .optional()
}

/// The size of `digest`, if anybody has it.
pub(crate) fn size(connection: &Connection, digest: &Digest) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT size FROM blob WHERE digest = ?1")?
        .query_row([digest.as_str()], |row| row.get(0).map(unsigned))
        .optional()
}

/// The repositories that have `digest`, a few of them.
pub(crate) fn holders(connection: &Connection, digest: &Digest) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT repository FROM link WHERE digest = ?1 LIMIT 64")?
        .query_map([digest.as_str()], |row| row.get(0))?
        .collect()
}

/// Records that `repository` has `digest`, whose bytes are on disk under their name.
pub(crate) fn add(
    tx: &Transaction,
    repository: &str,
    digest: &Digest,
    size: u64,
) -> rusqlite::Result<()> {
    ensure_repository(tx, repository)?;
    tx.prepare_cached(
        "INSERT INTO blob (digest, size, touched) VALUES (?1, ?2, ?3)
         ON CONFLICT (digest) DO UPDATE SET touched = excluded.touched",
    )?
    .execute((digest.as_str(), signed(size), now()))?;
    link(tx, repository, digest)
}

fn link(tx: &Transaction, repository: &str, digest: &Digest) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO link (repository, digest, touched) VALUES (?1, ?2, ?3)
         ON CONFLICT (repository, digest) DO UPDATE SET touched = excluded.touched",
    )?
    .execute((repository, digest.as_str(), now()))?;
    Ok(())
}

/// Gives `to` the blob that `from` has.
pub(crate) fn mount(
    tx: &Transaction,
    from: &str,
    to: &str,
    digest: &Digest,
) -> rusqlite::Result<Mounted> {
    let Some(size) = size_in(tx, from, digest)? else {
        return Ok(Mounted::No);
    };
    add(tx, to, digest, size)?;
    Ok(Mounted::Yes(size))
}

/// Somebody has just been told that `repository` has the blob: it stays for the time of grace.
pub(crate) fn touch(tx: &Transaction, repository: &str, digest: &Digest) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE link SET touched = ?3 WHERE repository = ?1 AND digest = ?2")?
        .execute((repository, digest.as_str(), now()))?;
    Ok(())
}

/// When somebody last had a new use for the blob in `repository`.
pub(crate) fn touched(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT touched FROM link WHERE repository = ?1 AND digest = ?2")?
        .query_row((repository, digest.as_str()), |row| row.get(0))
        .optional()
}

/// Whether a manifest of `repository` needs `digest`.
pub(crate) fn is_needed(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM needs WHERE repository = ?1 AND digest = ?2 LIMIT 1")?
        .query_row((repository, digest.as_str()), |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

/// Takes the blob from `repository`; whether it was there. The bytes are the collector's.
pub(crate) fn unlink(
    tx: &Transaction,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<bool> {
    tx.prepare_cached("DELETE FROM link WHERE repository = ?1 AND digest = ?2")?
        .execute((repository, digest.as_str()))
        .map(|n| n > 0)
}
