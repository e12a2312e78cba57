//! Volumes: directories that outlive containers.

use berth_spec::docker::volume::{VolumeList, VolumesPruned};
use berth_spec::docker::{Volume, VolumeCreateBody};

use crate::Filters;
use crate::engine::absent;
use crate::{Engine, Result};

/// Makes a volume, or answers the one of that name.
pub async fn create(engine: &Engine, body: VolumeCreateBody) -> Result<Volume> {
    let _ = (engine, body);
    absent("volume create")
}

/// Lists volumes.
pub async fn list(engine: &Engine, filters: Filters) -> Result<VolumeList> {
    let _ = (engine, filters);
    absent("volume ls")
}

/// Describes a volume.
pub async fn inspect(engine: &Engine, name: &str) -> Result<Volume> {
    let _ = (engine, name);
    absent("volume inspect")
}

/// Removes a volume that no container uses. With `force`, one that is not there is no error.
pub async fn remove(engine: &Engine, name: &str, force: bool) -> Result<()> {
    let _ = (engine, name, force);
    absent("volume rm")
}

/// Removes anonymous volumes (all, with the filter `all=true`) that no container uses.
pub async fn prune(engine: &Engine, filters: Filters) -> Result<VolumesPruned> {
    let _ = (engine, filters);
    absent("volume prune")
}
