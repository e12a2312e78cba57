//! resize: another size for a terminal.

use crate::engine::absent;
use crate::{Engine, Result};

/// Sets the size of a container's terminal, in characters.
pub async fn resize(engine: &Engine, id: &str, height: u16, width: u16) -> Result<()> {
    let _ = (engine, id, height, width);
    absent("resize")
}
