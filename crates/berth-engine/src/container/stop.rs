//! stop: asked to end, and killed where it does not.

use crate::engine::absent;
use crate::{Engine, Result};

/// How [`stop`] and [`crate::container::restart`] end a container.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// The container's own stop signal where absent.
    pub signal: Option<String>,
    /// Seconds until it is killed; negative for never. The container's own where absent.
    pub timeout: Option<i64>,
}

/// How a container was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Something worth telling the user.
    pub note: Option<String>,
}

/// Ends a container. [`crate::ErrorKind::NotModified`] when it does not run.
pub async fn stop(engine: &Engine, id: &str, options: StopOptions) -> Result<Stopped> {
    let _ = (engine, id, options);
    absent("stop")
}
