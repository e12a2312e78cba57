//! Tags.

use berth_spec::Digest;
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{limit, now};

/// What `tag` means in `repository`.
pub(crate) fn get(
    connection: &Connection,
    repository: &str,
    tag: &str,
) -> rusqlite::Result<Option<Digest>> {
    let text: Option<String> = connection
        .prepare_cached("SELECT digest FROM tag WHERE repository = ?1 AND name = ?2")?
        .query_row((repository, tag), |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Points `tag` at `digest`.
pub(crate) fn set(
    tx: &Transaction,
    repository: &str,
    tag: &str,
    digest: &Digest,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO tag (repository, name, digest, moved, checked) VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT (repository, name) DO UPDATE SET
             moved = CASE WHEN digest = excluded.digest THEN moved ELSE excluded.moved END,
             digest = excluded.digest, checked = excluded.checked",
    )?
    .execute((repository, tag, digest.as_str(), now()))?;
    Ok(())
}

/// When a cached tag was last compared with its upstream, in seconds since 1970.
pub(crate) fn checked(
    connection: &Connection,
    repository: &str,
    tag: &str,
) -> rusqlite::Result<Option<(Digest, i64)>> {
    let found: Option<(String, i64)> = connection
        .prepare_cached("SELECT digest, checked FROM tag WHERE repository = ?1 AND name = ?2")?
        .query_row((repository, tag), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.and_then(|(digest, at)| Some((digest.parse().ok()?, at))))
}

/// Removes `tag`; what it meant.
pub(crate) fn remove(
    tx: &Transaction,
    repository: &str,
    tag: &str,
) -> rusqlite::Result<Option<Digest>> {
    let text: Option<String> = tx
        .prepare_cached("DELETE FROM tag WHERE repository = ?1 AND name = ?2 RETURNING digest")?
        .query_row((repository, tag), |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Up to `count` tags of `repository` after `last`, in order.
pub(crate) fn list(
    connection: &Connection,
    repository: &str,
    last: &str,
    count: usize,
) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT name FROM tag WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
        )?
        .query_map((repository, last, limit(count)), |row| row.get(0))?
        .collect()
}

/// The tags that mean `digest`.
pub(crate) fn of(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT name FROM tag WHERE repository = ?1 AND digest = ?2 ORDER BY name")?
        .query_map((repository, digest.as_str()), |row| row.get(0))?
        .collect()
}
