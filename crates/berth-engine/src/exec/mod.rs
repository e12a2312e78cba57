//! Further processes in a running container.

use berth_spec::docker::exec::ExecCreateResponse;
use berth_spec::docker::{ExecCreateBody, ExecInspect, ExecStartBody};

use crate::Session;
use crate::engine::absent;
use crate::{Engine, Result};

/// Prepares a process; nothing runs yet.
pub async fn create(
    engine: &Engine,
    container: &str,
    body: ExecCreateBody,
) -> Result<ExecCreateResponse> {
    let _ = (engine, container, body);
    absent("exec")
}

/// Runs it. A session comes back unless it was asked to run detached.
pub async fn start(engine: &Engine, id: &str, body: ExecStartBody) -> Result<Option<Session>> {
    let _ = (engine, id, body);
    absent("exec")
}

/// Describes it.
pub async fn inspect(engine: &Engine, id: &str) -> Result<ExecInspect> {
    let _ = (engine, id);
    absent("exec")
}

/// Sets the size of its terminal, in characters.
pub async fn resize(engine: &Engine, id: &str, height: u16, width: u16) -> Result<()> {
    let _ = (engine, id, height, width);
    absent("exec")
}
