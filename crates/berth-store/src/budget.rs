//! How much room what could be had again may take, and compressed layers kept within it.
//!
//! A layer that was pulled is here twice for a while: as its tar, which runs, and as the compressed
//! blob that travelled, which a byte-identical push needs. The blob can be fetched or made again, so
//! it is the first to go.

use std::time::SystemTime;

use berth_spec::Digest;

use crate::lease::Held;
use crate::{Collected, Error, Result, Store, disk, durable};

/// Bounds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So much may always be kept.
    pub reserved: u64,
    /// More than this is never kept.
    pub max_used: u64,
    /// Beyond what is reserved, nothing is kept while the disk has less free than this.
    pub min_free: u64,
}

impl Budget {
    /// Everything is kept.
    pub const UNLIMITED: Budget = Budget {
        reserved: u64::MAX,
        max_used: u64::MAX,
        min_free: 0,
    };

    /// How many of `used` bytes have to go where the disk has `free` ones.
    pub fn surplus(&self, used: u64, free: u64) -> u64 {
        let beyond = used.saturating_sub(self.max_used.max(self.reserved));
        let wanted = self.min_free.saturating_sub(free);
        beyond.max(wanted).min(used.saturating_sub(self.reserved))
    }
}

impl Store {
    /// Bytes that the disk under the store has free for us.
    pub fn free_space(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(self.root())
            .map_err(|e| Error::io(format_args!("cannot look at {}", self.root().display()), e))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Removes compressed layers beyond the budget, the oldest first. Their layers stay.
    pub fn trim_blobs(&self, budget: &Budget) -> Result<Collected> {
        let mut kept = Vec::new();
        for digest in self.db().read(compressed_layers)? {
            let Ok(digest) = digest.parse::<Digest>() else {
                continue;
            };
            let path = self.content().path(&digest);
            // Not every blob that is known is here.
            if let Ok(meta) = std::fs::metadata(&path) {
                let came = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.push((came, digest, disk::bytes_on_disk(&path)));
            }
        }
        kept.sort();
        let used = kept.iter().map(|(.., bytes)| bytes).sum();
        let surplus = budget.surplus(used, self.free_space()?);
        let mut collected = Collected::default();
        {
            let frozen = self.leases().freeze();
            for (_, digest, bytes) in kept {
                if collected.bytes >= surplus {
                    break;
                }
                if frozen.holds(&Held::Blob(digest.clone())) {
                    continue;
                }
                self.content().discard(&digest, &self.trash())?;
                collected.blobs += 1;
                collected.bytes += bytes;
            }
        }
        if collected.blobs > 0 {
            durable::empty_dir(&self.trash());
        }
        Ok(collected)
    }
}

/// Blobs that are compressed forms of layers which are here, and nothing else.
fn compressed_layers(c: &rusqlite::Connection) -> rusqlite::Result<Vec<String>> {
    c.prepare_cached(
        "SELECT DISTINCT digest FROM layer_blob b
         WHERE EXISTS (SELECT 1 FROM layer l WHERE l.diff_id = b.diff_id)
           AND NOT EXISTS (SELECT 1 FROM image i WHERE i.id = b.digest OR i.manifest_digest = b.digest)
           AND NOT EXISTS (SELECT 1 FROM record_holds r WHERE r.kind = 'blob' AND r.digest = b.digest)",
    )?
    .query_map([], |row| row.get(0))?
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_go() {
        let budget = Budget {
            reserved: 10,
            max_used: 100,
            min_free: 50,
        };
        for (used, free, surplus) in [
            (90, 60, 0),
            (120, 60, 20),
            (90, 20, 30),
            (120, 45, 20),
            (30, 0, 20),
            (8, 0, 0),
        ] {
            assert_eq!(budget.surplus(used, free), surplus, "{used} {free}");
        }
        assert_eq!(Budget::UNLIMITED.surplus(u64::MAX, 0), 0);
    }
}
