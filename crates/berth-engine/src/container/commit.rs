//! commit: an image from a container.

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::ContainerConfig;
use berth_spec::docker::container::CommitResponse;
use berth_spec::oci::image::ExecConfig;

/// Edits the configuration of an image to be (`--change`); its error is the user's fault.
pub type ConfigEdit = Box<dyn FnOnce(&mut ExecConfig) -> Result<(), String> + Send>;

/// What is asked of [`commit`].
#[derive(Default)]
pub struct CommitRequest {
    /// Name or ID.
    pub container: String,
    /// The image's name; none where empty.
    pub repo: String,
    pub tag: String,
    pub comment: String,
    pub author: String,
    /// Pause the container meanwhile.
    pub pause: bool,
    /// Goes over the container's configuration.
    pub config: Option<ContainerConfig>,
    /// Applied last.
    pub edit: Option<ConfigEdit>,
}

/// Makes an image of a container's root and configuration.
pub async fn commit(engine: &Engine, request: CommitRequest) -> Result<CommitResponse> {
    let _ = (engine, request);
    absent("commit")
}
