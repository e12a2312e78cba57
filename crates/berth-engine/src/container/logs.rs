//! logs: what a container wrote.

use crate::ByteStream;
use crate::engine::absent;
use crate::{Engine, Result};

/// Which lines [`logs`] gives.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    /// Go on with what is written from now on, until the container ends.
    pub follow: bool,
    /// Nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch.
    pub until: Option<i64>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Each line begins with the log's extra attributes.
    pub details: bool,
    /// The last so many lines; all where absent.
    pub tail: Option<usize>,
}

/// A container's output.
pub struct Logs {
    /// Raw bytes if it has a terminal, framed otherwise.
    pub tty: bool,
    pub stream: ByteStream,
}

/// Reads the log of a container.
pub async fn logs(engine: &Engine, id: &str, options: LogOptions) -> Result<Logs> {
    let _ = (engine, id, options);
    absent("logs")
}
