//! changes: what a container changed in its file system.

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::container::Change;

/// Compares a container's root with its image.
pub async fn changes(engine: &Engine, id: &str) -> Result<Vec<Change>> {
    let _ = (engine, id);
    absent("changes")
}
