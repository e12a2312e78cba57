//! Manifests with their bytes, what they need, and who refers to whom.

use std::collections::BTreeMap;

use berth_spec::Digest;
use bytes::Bytes;

use super::sql::{self, Connection, Row, Transaction};
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
) -> sql::Result<Option<Manifest>> {
    connection.first(
        "SELECT media_type, bytes FROM manifest WHERE repository = ?1 AND digest = ?2",
        &[&repository, &digest.as_str()],
        |row| {
            Ok(Manifest {
                digest: digest.clone(),
                media_type: row.get(0)?,
                bytes: Bytes::from(row.get::<Vec<u8>>(1)?),
            })
        },
    )
}

/// The manifest's size, if `repository` has it.
pub(crate) fn size(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> sql::Result<Option<u64>> {
    connection.first(
        "SELECT size FROM manifest WHERE repository = ?1 AND digest = ?2",
        &[&repository, &digest.as_str()],
        |row| row.get(0).map(unsigned),
    )
}

/// Records a manifest whose needs have been seen to be there in this same transaction.
pub(crate) fn add(
    tx: &Transaction,
    repository: &str,
    manifest: &NewManifest,
) -> sql::Result<Stored> {
    ensure_repository(tx, repository)?;
    let digest = manifest.digest.as_str();
    let annotations = serde_json::to_string(&manifest.annotations).unwrap_or_default();
    let subject = manifest.subject.as_ref().map(Digest::as_str);
    let added = tx.execute(
        "INSERT INTO manifest (repository, digest, media_type, size, subject, artifact_type, annotations, pushed, pushed_by, pulled, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10) ON CONFLICT DO NOTHING",
        &[
            &repository,
            &digest,
            &manifest.media_type,
            &signed(manifest.bytes.len() as u64),
            &subject,
            &manifest.artifact_type,
            &annotations,
            &now(),
            &manifest.pushed_by,
            &&manifest.bytes[..],
        ],
    )?;
    if added == 0 {
        tx.execute(
            "UPDATE manifest SET pushed = ?3 WHERE repository = ?1 AND digest = ?2",
            &[&repository, &digest, &now()],
        )?;
        return Ok(Stored::Known);
    }
    for (kind, list) in [(0_i64, &manifest.blobs), (1, &manifest.manifests)] {
        for needed in list {
            tx.execute(
                "INSERT INTO needs (repository, manifest, digest, kind) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
                &[&repository, &digest, &needed.as_str(), &kind],
            )?;
        }
    }
    Ok(Stored::New)
}

/// Removes the manifest with its tags; whether it was there, and which tags went with it.
pub(crate) fn remove(
    tx: &Transaction,
    repository: &str,
    digest: &Digest,
) -> sql::Result<Option<Vec<String>>> {
    let digest = digest.as_str();
    let removed = tx.execute(
        "DELETE FROM manifest WHERE repository = ?1 AND digest = ?2",
        &[&repository, &digest],
    )?;
    if removed == 0 {
        return Ok(None);
    }
    tx.execute(
        "DELETE FROM needs WHERE repository = ?1 AND manifest = ?2",
        &[&repository, &digest],
    )?;
    tx.all(
        "DELETE FROM tag WHERE repository = ?1 AND digest = ?2 RETURNING name",
        &[&repository, &digest],
        |row| row.get(0),
    )
    .map(Some)
}

/// The manifests of `repository` whose subject is `subject`, after `last`, in order.
pub(crate) fn referrers(
    connection: &Connection,
    repository: &str,
    subject: &Digest,
    artifact_type: Option<&str>,
    last: &str,
    count: usize,
) -> sql::Result<Vec<Referrer>> {
    let found = connection.all(
        "SELECT digest, media_type, size, artifact_type, annotations FROM manifest
         WHERE repository = ?1 AND subject = ?2 AND digest > ?3
         AND (artifact_type = ?4 OR CAST(?4 AS TEXT) IS NULL)
         ORDER BY digest LIMIT ?5",
        &[
            &repository,
            &subject.as_str(),
            &last,
            &artifact_type,
            &limit(count),
        ],
        referrer,
    )?;
    Ok(found.into_iter().flatten().collect())
}

fn referrer(row: &Row) -> sql::Result<Option<Referrer>> {
    // A digest that cannot be read was never written by this program.
    let Ok(digest) = row.get::<String>(0)?.parse() else {
        return Ok(None);
    };
    Ok(Some(Referrer {
        digest,
        media_type: row.get(1)?,
        size: row.get(2).map(unsigned)?,
        artifact_type: row.get(3)?,
        annotations: serde_json::from_str(&row.get::<String>(4)?).unwrap_or_default(),
    }))
}

/// Notes that these manifests were pulled, at most once a minute and manifest.
pub(crate) fn note_pulls(tx: &Transaction, pulls: &[(String, Digest)]) -> sql::Result<()> {
    for (repository, digest) in pulls {
        tx.execute(
            "UPDATE manifest SET pulled = ?3 WHERE repository = ?1 AND digest = ?2",
            &[repository, &digest.as_str(), &now()],
        )?;
    }
    Ok(())
}
