//! What a pull or push tells while it runs. Faces turn it into Docker's message stream.

use tokio::sync::mpsc;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A line about the whole, such as `Pulling from library/python`.
    Status {
        /// Shown in front of the line: the tag on a pull.
        id: Option<String>,
        /// The line.
        text: String,
    },
    /// A step of one layer.
    Layer {
        /// The first twelve hex digits of the blob digest (pull) or diff ID (push).
        id: String,
        /// Where the layer is now.
        phase: LayerPhase,
    },
}

/// Where one layer is; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerPhase {
    /// Known, not yet asked for.
    PullingFsLayer,
    /// Behind others.
    Waiting,
    /// Bytes are arriving.
    Downloading { current: u64, total: u64 },
    /// All bytes are here and are being compared with the digest.
    VerifyingChecksum,
    /// Verified.
    DownloadComplete,
    /// Being decompressed and indexed.
    Extracting { current: u64, total: u64 },
    /// Usable.
    PullComplete,
    /// The store had it.
    AlreadyExists,
    /// Push: being looked at.
    Preparing,
    /// Push: bytes are leaving.
    Pushing { current: u64, total: u64 },
    /// Push: the registry has it now.
    Pushed,
    /// Push: the registry linked it from another repository.
    MountedFrom(String),
    /// Push: the registry had it.
    LayerAlreadyExists,
}

/// Where progress goes. Bounded; a slow reader slows the display, not the transfer: steps that do
/// not fit are dropped, the last step of a layer never is.
#[derive(Debug, Clone)]
pub struct ProgressSender(Option<mpsc::Sender<Progress>>);

impl ProgressSender {
    /// Sends to `sender`.
    pub fn new(sender: mpsc::Sender<Progress>) -> Self {
        Self(Some(sender))
    }

    /// Nobody listens.
    pub fn none() -> Self {
        Self(None)
    }

    /// A step that may be dropped.
    pub fn hint(&self, progress: Progress) {
        if let Some(sender) = &self.0 {
            // A full or closed channel loses a step of the display and nothing else.
            let _ = sender.try_send(progress);
        }
    }

    /// A step that must arrive as long as somebody reads.
    pub async fn send(&self, progress: Progress) {
        if let Some(sender) = &self.0 {
            // The reader may have left; the transfer goes on for the store's sake.
            let _ = sender.send(progress).await;
        }
    }
}
