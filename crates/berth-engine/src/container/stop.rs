//! stop: asked to end, and killed where it does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::exit;
use super::kill::{KILLED, SIGKILL, ended, mark_stopped, send, stop_signal};
use super::plan::{JoinedMode, parse_signal};
use super::record::Container;
use super::state::Status;
use crate::{Engine, Error, Result};

/// Seconds that a container has to end when nothing is said.
const TIMEOUT: i64 = 10;
/// A process that was just started may be about to set up its handlers.
const SETTLED: Duration = Duration::from_millis(300);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

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
    let container = engine.0.containers.find(id)?;
    let signal = options
        .signal
        .as_deref()
        .filter(|s| !s.is_empty())
        .map(parse_signal)
        .transpose()?;
    if !container.status().running() {
        return Err(Error::not_modified(format!(
            "container {} is already stopped",
            container.id
        )));
    }
    mark_stopped(engine, &container)?;
    exit::call_off(engine, &container).await?;
    let note = match container.status().running() {
        true => end(engine, &container, signal, options.timeout).await?,
        false => None,
    };
    super::tell(engine, &container, "stop", BTreeMap::new());
    Ok(Stopped { note })
}

/// Ends a running container: a signal, patience, a kill.
pub(super) async fn end(
    engine: &Engine,
    container: &Arc<Container>,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<Option<String>> {
    mark_stopped(engine, container)?;
    if container.status() == Status::Restarting {
        exit::give_up(engine, container)?;
        return Ok(None);
    }
    let signal = signal.unwrap_or_else(|| stop_signal(container));
    let seconds = timeout
        .or_else(|| container.read(|r| r.config.stop_timeout))
        .unwrap_or(TIMEOUT);
    let Ok(task) = container.task() else {
        // It ended by itself meanwhile.
        ended(container).await;
        return Ok(None);
    };
    let own_pids =
        container.read(|r| matches!(JoinedMode::pid(&r.host.pid_mode), Ok(JoinedMode::Private)));
    let deaf = own_pids && signal != SIGKILL && is_deaf(container, task.pid(), signal).await;
    if !deaf {
        if let Err(error) = send(engine, container, signal).await
            && container.status().running()
        {
            tracing::debug!(container.id = %container.id, %error, "the stop signal could not be sent");
        }
        match u64::try_from(seconds) {
            Err(_) => ended(container).await,
            Ok(seconds) => {
                let patience = Duration::from_secs(seconds);
                if tokio::time::timeout(patience, ended(container))
                    .await
                    .is_ok()
                {
                    return Ok(None);
                }
            }
        }
    }
    if container.status().running() {
        match send(engine, container, SIGKILL).await {
            Err(error) if container.status().running() && container.task().is_ok() => {
                return Err(error);
            }
            _ => {}
        }
        if tokio::time::timeout(KILLED, ended(container))
            .await
            .is_err()
        {
            return Err(Error::internal(format!(
                "cannot stop container: {}: its process does not end though it was killed",
                container.id
            )));
        }
    }
    Ok(deaf.then(|| {
        format!(
            "container {} was killed at once: its first process has no handler for signal {signal}, which the kernel then keeps from it (run it with --init, or give the image a STOPSIGNAL that it handles)",
            container.name()
        )
    }))
}

/// Whether the first process cannot see a signal, and has had the time to set up that it can.
async fn is_deaf(container: &Container, pid: i32, signal: i32) -> bool {
    loop {
        if can_see(pid, signal) {
            return false;
        }
        let young = container.age().is_some_and(|age| age < SETTLED);
        if !young || !container.status().alive() {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the first process of a PID namespace can see a signal: it has a handler, holds the
/// signal back to read it, or waits for signals this moment. The kernel drops what has no handler there (pid_namespaces(7)).
fn can_see(pid: i32, signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let Some(bit) = u32::try_from(signal - 1)
        .ok()
        .and_then(|n| 1_u64.checked_shl(n))
    else {
        return true;
    };
    visible(&status, bit) || berth_sys::held_signals::are_awaited_by(pid)
}

fn visible(status: &str, bit: u64) -> bool {
    let mask = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
    };
    match (mask("SigCgt:"), mask("SigBlk:")) {
        (Some(caught), Some(blocked)) => (caught | blocked) & bit != 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_without_a_handler_are_not_seen() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000010001\n";
        for (signal, seen) in [(1, true), (2, true), (15, false), (17, true), (9, false)] {
            assert_eq!(visible(status, 1 << (signal - 1)), seen, "{signal}");
        }
        assert!(visible("nothing", 1));
    }
}
