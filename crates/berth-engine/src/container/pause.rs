//! pause and unpause: the freezer of the container's cgroup.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::Container;
use super::state::{Happening, next};
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Freezes all processes of a container.
pub async fn pause(engine: &Engine, id: &str) -> Result<()> {
    let container = engine.0.containers.find(id)?;
    let _key = container.key.lock().await;
    freeze(engine, &container).await
}

/// Lets them go on.
pub async fn unpause(engine: &Engine, id: &str) -> Result<()> {
    let container = engine.0.containers.find(id)?;
    let _key = container.key.lock().await;
    thaw(engine, &container).await
}

pub(super) async fn freeze(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    switch(engine, container, Happening::Paused).await?;
    super::tell(engine, container, "pause", BTreeMap::new());
    Ok(())
}

pub(super) async fn thaw(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    switch(engine, container, Happening::Resumed).await?;
    super::tell(engine, container, "unpause", BTreeMap::new());
    Ok(())
}

async fn switch(engine: &Engine, container: &Arc<Container>, to: Happening) -> Result<()> {
    let (status, name, path) =
        container.read(|r| (r.life.status, r.name.clone(), engine.cgroup_path(r)));
    next(status, to, &name)?;
    let cgroups = engine.0.cgroups.clone();
    blocking(move || {
        let group = cgroups.open(&path);
        let done = group.and_then(|group| match to {
            Happening::Paused => group.freeze(),
            _ => group.thaw(),
        });
        done.map_err(|e| Error::internal(format!("cannot pause or unpause container {name}: {e}")))
    })
    .await?;
    container.happen(&engine.0.db, to, |_| {})
}
