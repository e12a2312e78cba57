//! Manifests with their bytes, what they need, and who refers to whom.

use std::collections::BTreeMap;

use berth_spec::Digest;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::{ensure_repository, limit, now, signed, unsigned};

/// A manifest as it is served.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

/// What is recorded of a manifest that has been checked.
#[derive(Debug, Clone)]
pub(crate) struct NewManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
    pub(crate) subject: Option<Digest>,
    pub(crate) artifact_type: String,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) blobs: Vec<Digest>,
    pub(crate) manifests: Vec<Digest>,
    /// Who pushed it; empty for nobody in particular.
    pub(crate) pushed_by: String,
}

/// What happened to the tags that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It was not there before.
    New,
    /// It was, byte for byte.
    Known,
}

/// An entry of a referrers list.
#[derive(Debug)]
pub(crate) struct Referrer {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) artifact_type: String,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The manifest `digest` of `repository`.
pub(crate) fn get(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<Option<Manifest>> {
    connection
        .prepare_cached(
            "SELECT media_type, bytes FROM manifest WHERE repository = ?1 AND digest = ?2",
        )?
        .query_row((repository, digest.as_str()), |row| {
            Ok(Manifest {
                digest: digest.clone(),
                media_type: row.get(0)?,
                bytes: Bytes::from(row.get::<_, Vec<u8>>(1)?),
            })
        })
        .optional()
}

/// The manifest's size, if `repository` has it.
pub(crate) fn size(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT size FROM manifest WHERE repository = ?1 AND digest = ?2")?
        .query_row((repository, digest.as_str()), |row| {
            row.get(0).map(unsigned)
        })
        .optional()
}

/// Records a manifest whose needs have been seen to be there in this same transaction.
pub(crate) fn add(
    tx: &Transaction,
    repository: &str,
    manifest: &NewManifest,
) -> rusqlite::Result<Stored> {
    ensure_repository(tx, repository)?;
    let digest = manifest.digest.as_str();
    let annotations = serde_json::to_string(&manifest.annotations).unwrap_or_default();
    let subject = manifest.subject.as_ref().map(Digest::as_str);
    let added = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO manifest (repository, digest, media_type, size, subject, artifact_type, annotations, pushed, pushed_by, pulled, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10)",
        )?
        .execute((
            repository,
            digest,
            &manifest.media_type,
            signed(manifest.bytes.len() as u64),
            subject,
            &manifest.artifact_type,
            annotations,
            now(),
            &manifest.pushed_by,
            &manifest.bytes[..],
        ))?;
    if added == 0 {
        tx.prepare_cached("UPDATE manifest SET pushed = ?3 WHERE repository = ?1 AND digest = ?2")?
            .execute((repository, digest, now()))?;
        return Ok(Stored::Known);
    }
    let mut needs = tx.prepare_cached(
        "INSERT OR IGNORE INTO needs (repository, manifest, digest, kind) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (kind, list) in [(0, &manifest.blobs), (1, &manifest.manifests)] {
        for needed in list {
            needs.execute((repository, digest, needed.as_str(), kind))?;
        }
    }
    Ok(Stored::New)
}

/// Removes the manifest with its tags; whether it was there, and which tags went with it.
pub(crate) fn remove(
    tx: &Transaction,
    repository: &str,
    digest: &Digest,
) -> rusqlite::Result<Option<Vec<String>>> {
    let key = (repository, digest.as_str());
    let removed = tx
        .prepare_cached("DELETE FROM manifest WHERE repository = ?1 AND digest = ?2")?
        .execute(key)?;
    if removed == 0 {
        return Ok(None);
    }
    tx.prepare_cached("DELETE FROM needs WHERE repository = ?1 AND manifest = ?2")?
        .execute(key)?;
    let tags = tx
        .prepare_cached("DELETE FROM tag WHERE repository = ?1 AND digest = ?2 RETURNING name")?
        .query_map(key, |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(tags))
}

/// The manifests of `repository` whose subject is `subject`, after `last`, in order.
pub(crate) fn referrers(
    connection: &Connection,
    repository: &str,
    subject: &Digest,
    artifact_type: Option<&str>,
    last: &str,
    count: usize,
) -> rusqlite::Result<Vec<Referrer>> {
    connection
        .prepare_cached(
            "SELECT digest, media_type, size, artifact_type, annotations FROM manifest
             WHERE repository = ?1 AND subject = ?2 AND digest > ?3 AND (?4 IS NULL OR artifact_type = ?4)
             ORDER BY digest LIMIT ?5",
        )?
        .query_map(
            (repository, subject.as_str(), last, artifact_type, limit(count)),
            referrer,
        )?
        .filter_map(Result::transpose)
        .collect()
}

fn referrer(row: &Row) -> rusqlite::Result<Option<Referrer>> {
    // A digest that cannot be read was never written by this program.
    let Ok(digest) = row.get::<_, String>(0)?.parse() else {
        return Ok(None);
    };
    Ok(Some(Referrer {
        digest,
        media_type: row.get(1)?,
        size: row.get(2).map(unsigned)?,
        artifact_type: row.get(3)?,
        annotations: serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default(),
    }))
}

/// Notes that these manifests were pulled, at most once a minute and manifest.
pub(crate) fn note_pulls(tx: &Transaction, pulls: &[(String, Digest)]) -> rusqlite::Result<()> {
    let mut note =
        tx.prepare_cached("UPDATE manifest SET pulled = ?3 WHERE repository = ?1 AND digest = ?2")?;
    for (repository, digest) in pulls {
        note.execute((repository, digest.as_str(), now()))?;
    }
    Ok(())
}
