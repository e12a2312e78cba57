//! update: other limits and another restart policy.

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::Resources;
use berth_spec::docker::container::UpdateResponse;

/// Changes limits of a container, at once where it runs.
pub async fn update(engine: &Engine, id: &str, changes: Resources) -> Result<UpdateResponse> {
    let _ = (engine, id, changes);
    absent("update")
}
