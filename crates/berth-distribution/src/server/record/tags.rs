//! Tags.

use berth_spec::Digest;

use super::sql::{self, Connection, Transaction};
use super::{limit, now};

/// What `tag` means in `repository`.
pub(crate) fn get(
    connection: &Connection,
    repository: &str,
    tag: &str,
) -> sql::Result<Option<Digest>> {
    let text: Option<String> = connection.value(
        "SELECT digest FROM tag WHERE repository = ?1 AND name = ?2",
        &[&repository, &tag],
    )?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Points `tag` at `digest`.
pub(crate) fn set(
    tx: &Transaction,
    repository: &str,
    tag: &str,
    digest: &Digest,
) -> sql::Result<()> {
    tx.execute(
        "INSERT INTO tag (repository, name, digest, moved, checked) VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT (repository, name) DO UPDATE SET
             moved = CASE WHEN tag.digest = excluded.digest THEN tag.moved ELSE excluded.moved END,
             digest = excluded.digest, checked = excluded.checked",
        &[&repository, &tag, &digest.as_str(), &now()],
    )
    .map(drop)
}

/// When a cached tag was last compared with its upstream, in seconds since 1970.
pub(crate) fn checked(
    connection: &Connection,
    repository: &str,
    tag: &str,
) -> sql::Result<Option<(Digest, i64)>> {
    let found: Option<(String, i64)> = connection.first(
        "SELECT digest, checked FROM tag WHERE repository = ?1 AND name = ?2",
        &[&repository, &tag],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(found.and_then(|(digest, at)| Some((digest.parse().ok()?, at))))
}

/// Removes `tag`; what it meant.
pub(crate) fn remove(tx: &Transaction, repository: &str, tag: &str) -> sql::Result<Option<Digest>> {
    let text: Option<String> = tx.value(
        "DELETE FROM tag WHERE repository = ?1 AND name = ?2 RETURNING digest",
        &[&repository, &tag],
    )?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Up to `count` tags of `repository` after `last`, in order.
pub(crate) fn list(
    connection: &Connection,
    repository: &str,
    last: &str,
    count: usize,
) -> sql::Result<Vec<String>> {
    connection.all(
        "SELECT name FROM tag WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
        &[&repository, &last, &limit(count)],
        |row| row.get(0),
    )
}

/// The tags that mean `digest`.
pub(crate) fn of(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> sql::Result<Vec<String>> {
    connection.all(
        "SELECT name FROM tag WHERE repository = ?1 AND digest = ?2 ORDER BY name",
        &[&repository, &digest.as_str()],
        |row| row.get(0),
    )
}
