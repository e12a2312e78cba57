//! wait: how a container ended.

use std::sync::Arc;

use berth_spec::docker::WaitResponse;
use berth_spec::docker::container::WaitError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::record::{Container, Pulse};
use crate::{Engine, Error, Result};

/// What is waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run; at once if it does not run now.
    #[default]
    NotRunning,
    /// It ends the next time.
    NextExit,
    /// It is gone.
    Removed,
}

impl std::str::FromStr for WaitCondition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(Error::invalid(format!("invalid condition: {other:?}"))),
        }
    }
}

/// A wait that has begun: whatever happens from now on is seen.
pub struct Waiting {
    condition: WaitCondition,
    /// How often it had ended when the wait began.
    exits: u64,
    pulse: watch::Receiver<Pulse>,
    leaving: CancellationToken,
    /// Keeps the sender.
    _container: Arc<Container>,
}

impl Waiting {
    /// How it ended; `None` if the engine ends first.
    pub async fn outcome(mut self) -> Option<WaitResponse> {
        let (condition, exits) = (self.condition, self.exits);
        let over = |pulse: &Pulse| match condition {
            WaitCondition::NotRunning => !pulse.running || pulse.removed,
            WaitCondition::NextExit => pulse.exits > exits || pulse.removed,
            WaitCondition::Removed => pulse.removed,
        };
        let ended = tokio::select! {
            ended = self.pulse.wait_for(over) => ended,
            () = self.leaving.cancelled() => return None,
        };
        Some(match ended {
            Ok(pulse) => WaitResponse {
                status_code: pulse.exit_code,
                // Of one that is gone, who started it has been told.
                error: (!pulse.error.is_empty() && !pulse.removed).then(|| WaitError {
                    message: pulse.error.clone(),
                }),
                cause: pulse.cause.clone(),
            },
            // The sender lives as long as the container that is held here.
            Err(_) => WaitResponse::default(),
        })
    }
}

/// Begins to wait. Answer the client's headers before [`Waiting::outcome`]: it relies on that.
pub async fn wait(engine: &Engine, id: &str, condition: WaitCondition) -> Result<Waiting> {
    let container = engine.0.containers.find(id)?;
    let pulse = container.pulse.subscribe();
    let exits = pulse.borrow().exits;
    Ok(Waiting {
        condition,
        exits,
        pulse,
        leaving: engine.0.leaving.clone(),
        _container: container,
    })
}
