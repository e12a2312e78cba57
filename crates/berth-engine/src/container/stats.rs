//! stats: what a container uses.

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::stats::Stats;

/// How [`stats`] samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsOptions {
    /// A sample a second, until the reader leaves; else one.
    pub stream: bool,
    /// One sample, without waiting for a second to compare with.
    pub one_shot: bool,
}

/// Samples as they are taken.
pub type StatsStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Stats> + Send>>;

/// Samples the use of resources.
pub async fn stats(engine: &Engine, id: &str, options: StatsOptions) -> Result<StatsStream> {
    let _ = (engine, id, options);
    absent("stats")
}
