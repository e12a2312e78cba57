//! Steps: one process over a snapshot, without a container's record. What a build runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::engine::absent;
use crate::{Engine, Result};
use berth_spec::docker::StreamKind;
use berth_spec::docker::config::{HostConfig, Ulimit};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A process to run over a snapshot.
#[derive(Debug, Clone, Default)]
pub struct StepRequest {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The snapshot that is its root, by its key in the store.
    pub snapshot: String,
    /// The program, found along `PATH` of `env`, and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute; made where it is missing.
    pub cwd: String,
    /// `name`, `uid`, `user:group`; empty for root.
    pub user: String,
    /// A network mode; empty for the default network.
    pub network: String,
    /// `name:address`, more lines of `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Mounted in this order.
    pub mounts: Vec<StepMount>,
    /// Limits: memory, processor and so on, as of a container. The rest is ignored.
    pub limits: HostConfig,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`; 0 for the default.
    pub shm_size: u64,
    /// As `--security-opt` of a container.
    pub security_opt: Vec<String>,
    /// Every privilege (`RUN --security=insecure`).
    pub privileged: bool,
}

/// Something mounted for the time of a step.
#[derive(Debug, Clone)]
pub enum StepMount {
    /// A file or directory: an `O_PATH` handle, or the root of a detached mount.
    Bind {
        source: Arc<OwnedFd>,
        /// Absolute, inside the root.
        target: String,
        read_only: bool,
    },
    /// An empty tmpfs.
    Tmpfs {
        /// Absolute, inside the root.
        target: String,
        /// Bytes; 0 for no bound of its own.
        size: u64,
    },
}

/// What the process writes, piece by piece.
pub type StepOutput = mpsc::Sender<(StreamKind, Bytes)>;

/// Runs the process to its end and answers its exit code (128 + n after signal n). Once `cancel`
/// fires it is killed, and this returns when nothing of it is left.
pub async fn run(
    engine: &Engine,
    request: StepRequest,
    output: StepOutput,
    cancel: CancellationToken,
) -> Result<i32> {
    let _ = (engine, request, output, cancel);
    absent("step")
}
