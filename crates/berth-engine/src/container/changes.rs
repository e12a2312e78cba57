//! changes: what a container changed in its file system.

use berth_spec::docker::container::Change;
use berth_store::ChangeKind;

use crate::crossing::blocking;
use crate::{Engine, Result};

/// Compares a container's root with its image.
pub async fn changes(engine: &Engine, id: &str) -> Result<Vec<Change>> {
    let container = engine.0.containers.find(id)?;
    let (store, key) = (engine.0.store.clone(), container.id.clone());
    let found = blocking(move || store.snapshots().diff(&key)).await?;
    Ok(found
        .into_iter()
        .map(|change| Change {
            path: change.path,
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
        })
        .collect())
}
