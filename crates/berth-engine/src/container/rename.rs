//! rename: another name for a container.

use crate::engine::absent;
use crate::{Engine, Result};

/// Gives a container another name.
pub async fn rename(engine: &Engine, id: &str, name: &str) -> Result<()> {
    let _ = (engine, id, name);
    absent("rename")
}
