//! restart: stopped, then started.

use crate::container::StopOptions;
use crate::engine::absent;
use crate::{Engine, Result};

/// Stops a container if it runs, and starts it.
pub async fn restart(engine: &Engine, id: &str, options: StopOptions) -> Result<()> {
    let _ = (engine, id, options);
    absent("restart")
}
