//! The builder: what it stands on, and the one verb it has.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use berth_distribution::Client;
use berth_store::Store;
use tokio::sync::mpsc;

use crate::{BuildEvent, BuildRequest, Built, Context, Error, ErrorKind, Executor, Result};

/// What a builder stands on. Nothing here is read from the environment: the daemon passes it in.
#[derive(Clone)]
pub struct BuilderOptions {
    /// Where images and layers are.
    pub store: Store,
    /// The store's directory: the builder keeps `build-cache.db`, `build-cache/` (cache mounts)
    /// and `tmp/build-*` (contexts) there.
    pub root: PathBuf,
    /// Fetches base images.
    pub client: Client,
    /// Runs the steps.
    pub executor: Arc<dyn Executor>,
    /// What the host hands to `RUN` steps without leaving a trace in the image.
    pub host: HostAccess,
    /// The program for git contexts; empty for `git` along the engine's `PATH`.
    pub git: PathBuf,
}

/// What lets a step reach the network as the host does. It reaches processes only: neither the
/// image's configuration nor its history nor the cache's keys know of it.
#[derive(Debug, Clone, Default)]
pub struct HostAccess {
    /// `HTTP_PROXY`, `https_proxy`, `NO_PROXY` … and whatever else the host's configuration lists
    /// (for example `PIP_INDEX_URL`), by name. A variable that the image, the Dockerfile or
    /// `--build-arg` sets wins.
    pub env: BTreeMap<String, String>,
    /// A bundle of CA certificates (PEM) that steps shall trust besides their own.
    pub ca_bundle: Option<PathBuf>,
}

/// Builds images from Dockerfiles; cheap to clone.
#[derive(Clone)]
pub struct Builder {
    options: Arc<BuilderOptions>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("root", &self.options.root)
            .finish_non_exhaustive()
    }
}

/// What a prune of the build cache gave back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The IDs of the records that went.
    pub ids: Vec<String>,
    /// Bytes of cache mounts. Layers go by the store's collector.
    pub bytes: u64,
}

impl Builder {
    /// A builder over `options`. What an earlier one left behind when it died is removed.
    pub fn new(options: BuilderOptions) -> Result<Self> {
        Ok(Self {
            options: Arc::new(options),
        })
    }

    /// Builds the image that the Dockerfile in `context` describes and answers its ID; naming it is
    /// the caller's. What happens is told to `events`, in order; a full channel slows the build.
    ///
    /// A dropped future and a closed channel cancel the build: the running step is killed and what
    /// the build had made is removed, in the background.
    pub async fn build(
        &self,
        _request: BuildRequest,
        _context: Context,
        _events: mpsc::Sender<BuildEvent>,
    ) -> Result<Built> {
        Err(Error::new(ErrorKind::Unavailable, "no builder yet"))
    }

    /// Forgets what the cache knows: everything with `all`, else what no image uses any more.
    pub async fn prune(&self, _all: bool) -> Result<Pruned> {
        Ok(Pruned::default())
    }
}
