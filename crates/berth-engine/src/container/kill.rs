//! kill: a signal for PID 1.

use crate::engine::absent;
use crate::{Engine, Result};

/// Sends `signal` (a name or a number; `KILL` where absent) to the container's first process.
pub async fn kill(engine: &Engine, id: &str, signal: Option<&str>) -> Result<()> {
    let _ = (engine, id, signal);
    absent("kill")
}
