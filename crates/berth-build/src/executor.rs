//! What the builder needs of an engine: one process run over one snapshot.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use berth_spec::Digest;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{BuildEvent, Limits, Result, StdStream, Ulimit};

/// Runs the processes of `RUN` steps. The engine has the real one; tests have one that records.
pub trait Executor: Send + Sync + 'static {
    /// Runs `step` to its end and answers the exit code (128 + n after signal n).
    ///
    /// Everything the process writes goes to `output`. Once `cancel` fires, the process is killed
    /// and the call returns, with any result, as soon as nothing of it is left: the builder
    /// removes the snapshot then. The root file system is writable and keeps what was written;
    /// beyond that nothing of the step may remain.
    fn run(
        &self,
        step: RunStep,
        output: StepOutput,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<i32>>;
}

/// A process to run for a `RUN` step.
#[derive(Debug, Clone)]
pub struct RunStep {
    /// 64 hexadecimal digits: the ID of the "intermediate container", as the output names it.
    pub id: String,
    /// The snapshot that is its root, by its key in the store. It exists, and is removed by the builder.
    pub snapshot: String,
    /// The program and its arguments; found along `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// An absolute path inside the root. It is made where it is missing.
    pub cwd: String,
    /// As in `USER`: `name`, `uid`, `user:group`; empty for root.
    pub user: String,
    /// `default`, `bridge`, `none`, `host`, `container:…` or a network's name; empty for the default.
    pub network: String,
    /// `name:address`, more lines of `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Mounted in this order, after `/dev`, `/proc` and `/sys`. A mount point that the root lacks
    /// was provided for: nothing needs to be made in the snapshot, except where the image hides
    /// it behind a symbolic link.
    pub mounts: Vec<StepMount>,
    /// Bounds of the step's cgroup.
    pub limits: Limits,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`; 0 for the default.
    pub shm_size: u64,
    /// `--security-opt` of the build.
    pub security_opt: Vec<String>,
}

/// Something mounted for the time of one step.
#[derive(Debug, Clone)]
pub enum StepMount {
    /// A file or a directory of the host or of another image.
    Bind {
        /// What is mounted: an `O_PATH` handle, to be cloned by `open_tree` with an empty path, or
        /// the root of a detached mount.
        source: Arc<OwnedFd>,
        /// Where, an absolute path inside the root.
        target: String,
        /// Whether writing is refused.
        read_only: bool,
        /// Where the source is of a stack of layers: which, for who mounts them otherwise.
        tree: Option<StepTree>,
    },
    /// An empty tmpfs.
    Tmpfs {
        /// Where, an absolute path inside the root.
        target: String,
        /// Bytes; 0 for no bound of its own.
        size: u64,
    },
}

/// Something in layers of the store.
#[derive(Debug, Clone)]
pub struct StepTree {
    /// A snapshot, which is written to; else `layers` are looked at.
    pub snapshot: Option<String>,
    /// Lowest first.
    pub layers: Vec<Digest>,
    /// What of it is meant; empty for all.
    pub path: PathBuf,
}

impl StepMount {
    /// Where it appears.
    pub fn target(&self) -> &str {
        match self {
            StepMount::Bind { target, .. } | StepMount::Tmpfs { target, .. } => target,
        }
    }
}

/// Where a step's output goes; cheap to clone.
#[derive(Debug, Clone)]
pub struct StepOutput(mpsc::Sender<BuildEvent>);

impl StepOutput {
    /// Sends to `events`.
    pub fn new(events: mpsc::Sender<BuildEvent>) -> Self {
        Self(events)
    }

    /// Passes `bytes` on, waiting while the reader is behind. False once nobody reads any more.
    pub async fn write(&self, stream: StdStream, bytes: Bytes) -> bool {
        let event = BuildEvent::Output { stream, bytes };
        self.0.send(event).await.is_ok()
    }
}
