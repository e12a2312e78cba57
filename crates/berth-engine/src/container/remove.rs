//! remove: a container and what belongs to it go.

use crate::engine::absent;
use crate::{Engine, Result};

/// How [`remove`] goes about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// A running container is killed first.
    pub force: bool,
    /// Its anonymous volumes go with it.
    pub volumes: bool,
    /// Only the link `name/alias` is removed.
    pub link: bool,
}

/// Removes a container.
pub async fn remove(engine: &Engine, id: &str, options: RemoveOptions) -> Result<()> {
    let _ = (engine, id, options);
    absent("remove")
}
