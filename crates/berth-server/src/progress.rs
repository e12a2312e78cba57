//! Steps of pulls and pushes in Docker's words.

use berth_distribution::{LayerPhase, Progress};
use berth_spec::docker::JsonMessage;
use berth_spec::docker::stream::ProgressDetail;

/// The record for one step; `None` for a step that Docker does not show.
pub fn message(step: Progress) -> Option<JsonMessage> {
    match step {
        Progress::Status { id, text } => Some(JsonMessage {
            id: id.unwrap_or_default(),
            status: text,
            ..JsonMessage::default()
        }),
        Progress::Layer { id, phase } => Some(layer(id, phase)),
    }
}

fn layer(id: String, phase: LayerPhase) -> JsonMessage {
    let plain = ProgressDetail::default;
    let far = |current, total| ProgressDetail {
        current,
        total,
        ..ProgressDetail::default()
    };
    let (status, detail) = match phase {
        LayerPhase::PullingFsLayer => ("Pulling fs layer".to_owned(), plain()),
        LayerPhase::Waiting => ("Waiting".to_owned(), plain()),
        LayerPhase::Downloading { current, total } => {
            ("Downloading".to_owned(), far(current, total))
        }
        LayerPhase::VerifyingChecksum => ("Verifying Checksum".to_owned(), plain()),
        LayerPhase::DownloadComplete => ("Download complete".to_owned(), plain()),
        LayerPhase::Extracting { current, total } => ("Extracting".to_owned(), far(current, total)),
        LayerPhase::PullComplete => ("Pull complete".to_owned(), plain()),
        LayerPhase::AlreadyExists => ("Already exists".to_owned(), plain()),
        LayerPhase::Preparing => ("Preparing".to_owned(), plain()),
        LayerPhase::Pushing { current, total } => ("Pushing".to_owned(), far(current, total)),
        LayerPhase::Pushed => ("Pushed".to_owned(), plain()),
        LayerPhase::MountedFrom(repository) => (format!("Mounted from {repository}"), plain()),
        LayerPhase::LayerAlreadyExists => ("Layer already exists".to_owned(), plain()),
    };
    JsonMessage::progress(id, status, detail)
}
