//! inspect: all that is known of a container.

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::ContainerInspect;

/// Describes a container; its size on disk too, if asked for.
pub async fn inspect(engine: &Engine, id: &str, size: bool) -> Result<ContainerInspect> {
    let _ = (engine, id, size);
    absent("inspect")
}
