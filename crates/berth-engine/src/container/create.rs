//! create: a request becomes a record and a snapshot.

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::{ContainerCreateBody, ContainerCreateResponse};

/// What is asked of [`create`].
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Made up where it is absent.
    pub name: Option<String>,
    /// `os/arch[/variant]` that the image must have.
    pub platform: Option<String>,
    pub body: ContainerCreateBody,
}

/// Makes a container that does not run yet.
pub async fn create(engine: &Engine, request: CreateRequest) -> Result<ContainerCreateResponse> {
    let _ = (engine, request);
    absent("create")
}
