//! The snapshots that steps write to.

use berth_spec::Digest;
use berth_store::Store;

use crate::Result;

/// What the keys of builds' snapshots begin with, so that none outlives the engine that made it.
const SNAPSHOT_PREFIX: &str = "build-";

/// A snapshot that goes with the value.
pub(super) struct SnapshotGuard {
    store: Store,
    pub(super) key: String,
}

impl SnapshotGuard {
    /// Makes a snapshot over `layers`.
    pub(super) fn create(store: &Store, id: &str, layers: &[Digest]) -> Result<Self> {
        let key = format!("{SNAPSHOT_PREFIX}{id}");
        store.snapshots().create(&key, layers)?;
        Ok(SnapshotGuard {
            store: store.clone(),
            key,
        })
    }
}

/// Removes the snapshots of builds that were under way when an earlier engine died.
pub(crate) fn sweep(store: &Store) -> Result<()> {
    Ok(store.snapshots().remove_all(SNAPSHOT_PREFIX)?)
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        if let Err(error) = self.store.snapshots().remove(&self.key) {
            tracing::warn!(snapshot = %self.key, %error, "cannot remove a build step's snapshot");
        }
    }
}
