//! restart: stopped, then started.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::parse_signal;
use super::record::Container;
use super::state::Status;
use super::{StopOptions, start, stop};
use crate::{Engine, Error, Result};

/// Stops a container if it runs, and starts it.
pub async fn restart(engine: &Engine, id: &str, options: StopOptions) -> Result<()> {
    let container = engine.0.containers.find(id)?;
    let signal = options
        .signal
        .as_deref()
        .filter(|s| !s.is_empty())
        .map(parse_signal)
        .transpose()?;
    let _key = container.key.lock().await;
    again(engine, &container, signal, options.timeout, true)
        .await
        .map_err(|e: Error| e.context(format_args!("cannot restart container {id}")))
}

/// Stops and starts a container whose key is held. `fresh` begins the count of restarts anew.
pub(super) async fn again(
    engine: &Engine,
    container: &Arc<Container>,
    signal: Option<i32>,
    timeout: Option<i64>,
    fresh: bool,
) -> Result<()> {
    if container.status() == Status::Paused {
        // A frozen process sees no signal; Docker restarts it all the same.
        super::pause::thaw(engine, container).await?;
    }
    if container.status().running() {
        // It must not go away between its two runs.
        let auto_remove =
            container.change(&engine.0.db, |r| std::mem::take(&mut r.host.auto_remove))?;
        let ended = stop::end(engine, container, signal, timeout).await;
        container.change(&engine.0.db, |r| r.host.auto_remove = auto_remove)?;
        ended?;
    }
    start::run(engine, container, fresh).await?;
    super::tell(engine, container, "restart", BTreeMap::new());
    Ok(())
}
