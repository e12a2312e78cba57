//! resize: another size for a terminal.

use std::collections::BTreeMap;

use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Sets the size of a container's terminal, in characters.
pub async fn resize(engine: &Engine, id: &str, height: u16, width: u16) -> Result<()> {
    let container = engine.0.containers.find(id)?;
    let task = container
        .task()
        .map_err(|_| Error::conflict(format!("container {} is not running", container.id)))?;
    blocking(move || task.resize(height, width)).await?;
    let attributes = BTreeMap::from([
        ("height".to_owned(), height.to_string()),
        ("width".to_owned(), width.to_string()),
    ]);
    super::tell(engine, &container, "resize", attributes);
    Ok(())
}
