//! start: a created or exited container runs.

use crate::engine::absent;
use crate::{Engine, Result};

/// Starts a created or exited container. [`crate::ErrorKind::NotModified`] when it runs already.
pub async fn start(engine: &Engine, id: &str) -> Result<()> {
    let _ = (engine, id);
    absent("start")
}
