//! kill: a signal for PID 1.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::exit;
use super::plan::parse_signal;
use super::record::Container;
use super::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

pub(super) const SIGKILL: i32 = 9;
/// How long a killed process may take to be gone.
pub(super) const KILLED: Duration = Duration::from_secs(30);

/// Sends `signal` (a name or a number; `KILL` where absent) to the container's first process.
pub async fn kill(engine: &Engine, id: &str, signal: Option<&str>) -> Result<()> {
    let signal = match signal {
        None | Some("") => SIGKILL,
        Some(text) => parse_signal(text)?,
    };
    let container = engine.0.containers.find(id)?;
    if container.status() == Status::Restarting && signal == SIGKILL {
        mark_stopped(engine, &container)?;
        exit::call_off(engine, &container).await?;
        if !container.status().alive() {
            return Ok(());
        }
    }
    let status = container.status();
    if !status.alive() {
        return Err(Error::conflict(format!(
            "cannot kill container: {id}: container {} is not running",
            container.id
        )));
    }
    // Docker takes these as a wish to end the container: the restart policy does not apply.
    let stop_signal = stop_signal(&container);
    if signal == SIGKILL || signal == stop_signal {
        mark_stopped(engine, &container)?;
    }
    send(engine, &container, signal)
        .await
        .map_err(|e| e.context(format_args!("cannot kill container: {id}")))?;
    if signal == SIGKILL {
        // Docker answers when the container is gone, and not at all too late.
        let _ = tokio::time::timeout(KILLED, ended(&container)).await;
    }
    Ok(())
}

/// The signal that a container is stopped with.
pub(super) fn stop_signal(container: &Container) -> i32 {
    container.read(|r| parse_signal(&r.config.stop_signal).unwrap_or(15))
}

/// The restart policy does not apply to the end that follows.
pub(super) fn mark_stopped(engine: &Engine, container: &Container) -> Result<()> {
    container.change(&engine.0.db, |r| r.life.stopped_by_user = true)
}

/// Sends a signal and tells of it. A paused container has to be thawed to die.
pub(super) async fn send(engine: &Engine, container: &Arc<Container>, signal: i32) -> Result<()> {
    let task = container.task()?;
    let frozen = container.status() == Status::Paused && signal == SIGKILL;
    let path = container.read(|r| engine.cgroup_path(r));
    let cgroups = engine.0.cgroups.clone();
    blocking(move || {
        task.kill(signal)?;
        if frozen {
            let thawed = cgroups.open(&path).and_then(|group| group.thaw());
            thawed.map_err(|e| Error::internal(e.to_string()))?;
        }
        Ok::<_, Error>(())
    })
    .await?;
    berth_sys::fail_point("container.kill.signalled");
    let attributes = BTreeMap::from([("signal".to_owned(), signal.to_string())]);
    super::tell(engine, container, "kill", attributes);
    Ok(())
}

/// Waits until the container does not run (or is gone).
pub(super) async fn ended(container: &Container) {
    let mut pulse = container.pulse.subscribe();
    // The sender lives as long as the container, which this function borrows.
    let _ = pulse.wait_for(|p| !p.running || p.removed).await;
}
