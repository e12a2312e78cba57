//! export: the root file system as a tar.

use std::path::Path;

use berth_store::tree::{PackOptions, pack};

use super::volumes::root_of;
use crate::crossing::blocking;
use crate::pipe::produce;
use crate::{ByteStream, Engine, Result};

/// Packs a container's root file system, without its mounts.
pub async fn export(engine: &Engine, id: &str) -> Result<ByteStream> {
    let container = engine.0.containers.find(id)?;
    let (store, key) = (engine.0.store.clone(), container.id.clone());
    let root = blocking(move || root_of(store.snapshots().view_of(&key)?.into_fd())).await?;
    super::tell(
        engine,
        &container,
        "export",
        std::collections::BTreeMap::new(),
    );
    Ok(produce(move |out| {
        let options = PackOptions {
            name: Some(""),
            ..PackOptions::default()
        };
        pack(&root, Path::new("/"), out, &options).map(drop)
    }))
}
