//! The engine itself.

use berth_spec::docker::system::DiskUsage;
use berth_spec::docker::{AuthConfig, AuthResponse, Event, SystemInfo, VersionResponse};

use crate::Filters;
use crate::engine::absent;
use crate::{Engine, Result};

/// Which events [`events`] gives.
#[derive(Debug, Clone, Default)]
pub struct EventsOptions {
    /// Nanoseconds since the epoch: kept events from then on come first.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch: the stream ends then.
    pub until: Option<i64>,
    pub filters: Filters,
}

/// Events as they happen.
pub type EventStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Event> + Send>>;

/// Which version this is.
pub async fn version(engine: &Engine) -> Result<VersionResponse> {
    let _ = engine;
    absent("version")
}

/// What the engine is, has and can.
pub async fn info(engine: &Engine) -> Result<SystemInfo> {
    let _ = engine;
    absent("info")
}

/// What takes how much of the disk; the build cache is filled in by who has one.
pub async fn df(engine: &Engine) -> Result<DiskUsage> {
    let _ = engine;
    absent("df")
}

/// What happens, from now or from an earlier time on.
pub async fn events(engine: &Engine, options: EventsOptions) -> Result<EventStream> {
    let _ = (engine, options);
    absent("events")
}

/// Asks a registry whether it accepts credentials.
pub async fn auth(engine: &Engine, auth: AuthConfig) -> Result<AuthResponse> {
    let _ = (engine, auth);
    absent("login")
}
