//! Where blobs are known to lie, so that a push can have a registry link one from another of its
//! repositories instead of sending it.

use berth_spec::{Digest, Reference};
use rusqlite::params;

use crate::Result;
use crate::db::Db;

/// Repositories that are remembered per blob and registry.
const PER_BLOB_MAX: i64 = 16;

/// What is known of blobs in registries; cheap to clone.
#[derive(Clone)]
pub struct Sources {
    db: Db,
}

impl Sources {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// The repository of `reference` has these blobs.
    pub fn add(&self, reference: &Reference, blobs: &[Digest]) -> Result<()> {
        self.db.write(|tx| {
            for digest in blobs {
                tx.prepare_cached(
                    "INSERT INTO blob_source (digest, domain, repository)
                     SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM blob_source WHERE digest = ?1 AND domain = ?2) < ?4
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![
                    digest.as_str(),
                    reference.domain(),
                    reference.path(),
                    PER_BLOB_MAX
                ])?;
            }
            Ok(())
        })
    }

    /// Repositories of the registry `domain` that have had the blob.
    pub fn of(&self, digest: &Digest, domain: &str) -> Result<Vec<String>> {
        self.db.read(|c| {
            c.prepare_cached(
                "SELECT repository FROM blob_source WHERE digest = ?1 AND domain = ?2 ORDER BY repository",
            )?
            .query_map(params![digest.as_str(), domain], |row| row.get(0))?
            .collect()
        })
    }

    /// The blob turned out not to be there.
    pub fn forget(&self, digest: &Digest, domain: &str, repository: &str) -> Result<()> {
        self.db.write(|tx| {
            tx.execute(
                "DELETE FROM blob_source WHERE digest = ?1 AND domain = ?2 AND repository = ?3",
                params![digest.as_str(), domain, repository],
            )?;
            Ok(())
        })
    }
}
