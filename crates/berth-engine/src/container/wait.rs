//! wait: how a container ended.

use berth_spec::docker::WaitResponse;

use crate::engine::absent;
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
pub struct Waiting {}

impl Waiting {
    /// How it ended.
    pub async fn outcome(self) -> WaitResponse {
        WaitResponse::default()
    }
}

/// Begins to wait. Answer the client's headers before [`Waiting::outcome`]: it relies on that.
pub async fn wait(engine: &Engine, id: &str, condition: WaitCondition) -> Result<Waiting> {
    let _ = (engine, id, condition);
    absent("wait")
}
