//! pause and unpause: the freezer of the container's cgroup.

use crate::engine::absent;
use crate::{Engine, Result};

/// Freezes all processes of a container.
pub async fn pause(engine: &Engine, id: &str) -> Result<()> {
    let _ = (engine, id);
    absent("pause")
}

/// Lets them go on.
pub async fn unpause(engine: &Engine, id: &str) -> Result<()> {
    let _ = (engine, id);
    absent("unpause")
}
