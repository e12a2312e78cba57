//! top: the processes of a container.

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::container::TopResponse;

/// Lists processes as `ps` with `ps_args` (`-ef` where empty) does.
pub async fn top(engine: &Engine, id: &str, ps_args: &str) -> Result<TopResponse> {
    let _ = (engine, id, ps_args);
    absent("top")
}
