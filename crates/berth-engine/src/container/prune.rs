//! prune: all stopped containers go.

use berth_spec::docker::container::ContainersPruned;

use crate::Filters;
use crate::engine::absent;
use crate::{Engine, Result};

/// Removes containers that do not run; filters are `until` and `label`.
pub async fn prune(engine: &Engine, filters: Filters) -> Result<ContainersPruned> {
    let _ = (engine, filters);
    absent("prune")
}
