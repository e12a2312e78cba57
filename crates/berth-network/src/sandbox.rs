//! Sandboxes: a network namespace that a container, or several, live in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A network namespace, held by a descriptor here and by a bind mount at [`path`](Self::path), so that it
/// survives the engine. A handle: dropping it does nothing, [`crate::Networks::release`] ends the sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) netns: Arc<OwnedFd>,
}

impl Sandbox {
    /// 64 hex digits, to be recorded by the engine.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the namespace is bound, below `run_dir/netns` (Docker's `SandboxKey`).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The namespace, to enter or to hand to a container's init.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// A descriptor of one's own, close-on-exec.
    pub fn try_clone_netns(&self) -> io::Result<OwnedFd> {
        self.netns.try_clone()
    }
}
