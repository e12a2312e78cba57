//! Records: small values that other crates keep here by key, and the content they need kept.
//!
//! The build cache is the first user: a record says which layer a step gave, and holds that layer.
//! A record is a root for the collector, as an image is.

use berth_spec::Digest;
use rusqlite::{OptionalExtension, params};

use crate::db::Db;
use crate::images::now_ns;
use crate::lease::Held;
use crate::{Error, Lease, Result};

/// Bytes that a record's value may have at most.
const VALUE_MAX: usize = 1 << 20;

/// Records of a store; cheap to clone. A *scope* is the name of who keeps them.
#[derive(Clone)]
pub struct Records {
    db: Db,
}

impl Records {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Keeps `value` under `key`, in place of what was there, together with the layers and blobs
    /// that it speaks of. They must be here and held by `lease`.
    pub fn put(
        &self,
        lease: &Lease,
        scope: &str,
        key: &str,
        value: &[u8],
        layers: &[Digest],
        blobs: &[Digest],
    ) -> Result<()> {
        if value.len() > VALUE_MAX {
            return Err(Error::invalid(format!(
                "record {scope}/{key} has more than {VALUE_MAX} bytes"
            )));
        }
        layers.iter().for_each(|l| lease.hold_layer(l));
        blobs.iter().for_each(|b| lease.hold_blob(b));
        self.db.write(|tx| {
            tx.execute(
                "DELETE FROM record WHERE scope = ?1 AND key = ?2",
                params![scope, key],
            )?;
            tx.execute(
                "INSERT INTO record (scope, key, value, used) VALUES (?1, ?2, ?3, ?4)",
                params![scope, key, value, now_ns()],
            )?;
            let mut hold = tx.prepare_cached(
                "INSERT OR IGNORE INTO record_holds (scope, key, kind, digest) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for layer in layers {
                hold.execute(params![scope, key, "layer", layer.as_str()])?;
            }
            for blob in blobs {
                hold.execute(params![scope, key, "blob", blob.as_str()])?;
            }
            Ok(())
        })
    }

    /// The value under `key`, which counts as used now. What the record holds is held by `lease`
    /// from here on.
    pub fn get(&self, lease: &Lease, scope: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let held = self.db.read(|c| {
            c.prepare_cached("SELECT kind, digest FROM record_holds WHERE scope = ?1 AND key = ?2")?
                .query_map(params![scope, key], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        for (kind, digest) in held {
            let Ok(digest) = digest.parse() else { continue };
            match &kind[..] {
                "layer" => lease.hold_layer(&digest),
                _ => lease.hold_blob(&digest),
            }
        }
        // Held first, looked at second: a record that went meanwhile is not found.
        self.db.write(|tx| {
            tx.query_row(
                "UPDATE record SET used = ?3 WHERE scope = ?1 AND key = ?2 RETURNING value",
                params![scope, key, now_ns()],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Forgets the record; whether there was one.
    pub fn remove(&self, scope: &str, key: &str) -> Result<bool> {
        let gone = self.db.write(|tx| {
            tx.execute(
                "DELETE FROM record WHERE scope = ?1 AND key = ?2",
                params![scope, key],
            )
        })?;
        Ok(gone > 0)
    }

    /// Keys and values of `scope`, the longest unused first. Looking does not count as use.
    pub fn list(&self, scope: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.db.read(|c| {
            c.prepare_cached("SELECT key, value FROM record WHERE scope = ?1 ORDER BY used, key")?
                .query_map(params![scope], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// The keys of `scope` and when each was last used (nanoseconds since 1970), the longest unused first.
    pub fn uses(&self, scope: &str) -> Result<Vec<(String, i64)>> {
        self.db.read(|c| {
            c.prepare_cached("SELECT key, used FROM record WHERE scope = ?1 ORDER BY used, key")?
                .query_map(params![scope], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// The keys of `scope`, the longest unused first.
    pub fn keys(&self, scope: &str) -> Result<Vec<String>> {
        self.db.read(|c| {
            c.prepare_cached("SELECT key FROM record WHERE scope = ?1 ORDER BY used, key")?
                .query_map(params![scope], |row| row.get(0))?
                .collect()
        })
    }
}

/// What records hold, for the collector.
pub(crate) fn held(c: &rusqlite::Connection) -> rusqlite::Result<Vec<Held>> {
    let mut statement = c.prepare_cached("SELECT kind, digest FROM record_holds")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (kind, digest) = row?;
        if let Ok(digest) = digest.parse() {
            found.push(match &kind[..] {
                "layer" => Held::Layer(digest),
                _ => Held::Blob(digest),
            });
        }
    }
    Ok(found)
}
