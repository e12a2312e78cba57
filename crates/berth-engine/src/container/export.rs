//! export: the root file system as a tar.

use crate::ByteStream;
use crate::engine::absent;
use crate::{Engine, Result};

/// Packs a container's root file system, without its mounts.
pub async fn export(engine: &Engine, id: &str) -> Result<ByteStream> {
    let _ = (engine, id);
    absent("export")
}
