//! list: a line for each container.

use berth_spec::docker::ContainerSummary;

use crate::Filters;
use crate::engine::absent;
use crate::{Engine, Result};

/// Which containers [`list`] shows.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those that do not run, too.
    pub all: bool,
    /// The newest so many (and those that do not run, too); 0 for all.
    pub limit: usize,
    /// With sizes.
    pub size: bool,
    pub filters: Filters,
}

/// Lists containers, the newest first.
pub async fn list(engine: &Engine, options: ListOptions) -> Result<Vec<ContainerSummary>> {
    let _ = (engine, options);
    absent("list")
}
