//! restart: stopped, then started.

use std::collections::BTreeMap;

use super::plan::parse_signal;
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
    if container.status() == Status::Paused {
        // A frozen process sees no signal; Docker restarts it all the same.
        super::pause::thaw(engine, &container).await?;
    }
    if container.status().running() {
        // It must not go away between its two runs.
        let auto_remove =
            container.change(&engine.0.db, |r| std::mem::take(&mut r.host.auto_remove))?;
        let ended = stop::end(engine, &container, signal, options.timeout).await;
        container.change(&engine.0.db, |r| r.host.auto_remove = auto_remove)?;
        ended.map_err(|e: Error| e.context(format_args!("cannot restart container {id}")))?;
    }
    start::run(engine, &container, true).await?;
    super::tell(engine, &container, "restart", BTreeMap::new());
    Ok(())
}
