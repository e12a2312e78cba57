//! Sums and overviews: for quotas, metrics and the page.

use berth_spec::Digest;

use super::sql::{self, Connection};
use super::{limit, unsigned};

/// Everything that is stored, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) repositories: u64,
    pub(crate) manifests: u64,
    pub(crate) tags: u64,
    pub(crate) blobs: u64,
    /// Bytes of all blobs, each counted once.
    pub(crate) blob_bytes: u64,
}

/// A repository on the page.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RepositorySummary {
    pub(crate) name: String,
    pub(crate) tags: u64,
    pub(crate) manifests: u64,
    /// Bytes of its blobs; those that others have too count here as well.
    pub(crate) bytes: u64,
    /// When it was last pushed to, in seconds since 1970.
    pub(crate) pushed: i64,
}

/// A tag on the page.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TagSummary {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) moved: i64,
    pub(crate) pulled: i64,
}

/// Counts everything.
pub(crate) fn totals(connection: &Connection) -> sql::Result<Totals> {
    let number = |sql| -> sql::Result<u64> {
        let found = connection.value(sql, &[])?;
        Ok(found.map_or(0, unsigned))
    };
    Ok(Totals {
        repositories: number("SELECT COUNT(*) FROM repository")?,
        manifests: number("SELECT COUNT(*) FROM manifest")?,
        tags: number("SELECT COUNT(*) FROM tag")?,
        blobs: number("SELECT COUNT(*) FROM blob")?,
        blob_bytes: number("SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blob")?,
    })
}

/// Bytes of the blobs that the repositories of `namespace` have, each blob once.
pub(crate) fn bytes_in(connection: &Connection, namespace: &str) -> sql::Result<u64> {
    // A slash sorts just before a zero: `team/` to `team0` is all that begins with `team/`.
    let found = connection.value(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blob WHERE digest IN (
             SELECT digest FROM link WHERE repository = ?1 OR ?1 = ''
             OR (repository >= ?1 || '/' AND repository < ?1 || '0'))",
        &[&namespace],
    )?;
    Ok(found.map_or(0, unsigned))
}

/// Whether a repository of `namespace` has the blob.
pub(crate) fn is_in(
    connection: &Connection,
    namespace: &str,
    digest: &Digest,
) -> sql::Result<bool> {
    connection.any(
        "SELECT 1 FROM link WHERE digest = ?2 AND (repository = ?1 OR ?1 = ''
         OR (repository >= ?1 || '/' AND repository < ?1 || '0')) LIMIT 1",
        &[&namespace, &digest.as_str()],
    )
}

/// Up to `count` repositories after `last`, in order.
pub(crate) fn repositories(
    connection: &Connection,
    last: &str,
    count: usize,
) -> sql::Result<Vec<RepositorySummary>> {
    connection.all(
        "SELECT name,
            (SELECT COUNT(*) FROM tag t WHERE t.repository = r.name),
            (SELECT COUNT(*) FROM manifest m WHERE m.repository = r.name),
            (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT)
                FROM link l JOIN blob b ON b.digest = l.digest WHERE l.repository = r.name),
            (SELECT COALESCE(MAX(pushed), 0) FROM manifest m WHERE m.repository = r.name)
         FROM repository r WHERE name > ?1
         AND EXISTS (SELECT 1 FROM manifest m WHERE m.repository = r.name)
         ORDER BY name LIMIT ?2",
        &[&last, &limit(count)],
        |row| {
            Ok(RepositorySummary {
                name: row.get(0)?,
                tags: row.get(1).map(unsigned)?,
                manifests: row.get(2).map(unsigned)?,
                bytes: row.get(3).map(unsigned)?,
                pushed: row.get(4)?,
            })
        },
    )
}

/// Up to `count` tags of `repository` after `last`, in order.
pub(crate) fn tags(
    connection: &Connection,
    repository: &str,
    last: &str,
    count: usize,
) -> sql::Result<Vec<TagSummary>> {
    connection.all(
        "SELECT t.name, t.digest, m.media_type, t.moved, m.pulled
         FROM tag t JOIN manifest m ON m.repository = t.repository AND m.digest = t.digest
         WHERE t.repository = ?1 AND t.name > ?2 ORDER BY t.name LIMIT ?3",
        &[&repository, &last, &limit(count)],
        |row| {
            Ok(TagSummary {
                name: row.get(0)?,
                digest: row.get(1)?,
                media_type: row.get(2)?,
                moved: row.get(3)?,
                pulled: row.get(4)?,
            })
        },
    )
}
