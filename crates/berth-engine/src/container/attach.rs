//! attach: a client at a container's stdio.

use crate::Session;
use crate::engine::absent;
use crate::{Engine, Result};

/// What a client is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// What was written before comes first.
    pub logs: bool,
    /// What is written from now on.
    pub stream: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// `ctrl-p,ctrl-q` where empty.
    pub detach_keys: String,
}

/// Attaches to a container, running or about to run.
pub async fn attach(engine: &Engine, id: &str, options: AttachOptions) -> Result<Session> {
    let _ = (engine, id, options);
    absent("attach")
}
