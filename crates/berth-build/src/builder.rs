//! The builder: what it stands on, and the one verb it has.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;

use berth_distribution::Client;
use berth_store::{Budget, Store};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, CacheRecord};
use crate::op::{Caches, sweep};
use crate::output::Teller;
use crate::policy::{self, CacheRule};
use crate::solve::{Job, solve};
use crate::{
    BuildEvent, BuildRequest, Built, Context, Error, ErrorKind, Executor, Result, context,
    dockerfile,
};

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
    /// How much room the cache may take beyond what images have too.
    pub cache: Budget,
    /// Further rules for it, and for cache mounts, obeyed in this order.
    pub policy: Vec<CacheRule>,
    /// The program for git contexts; empty for `git` along the engine's `PATH`.
    pub git: PathBuf,
}

impl BuilderOptions {
    /// Where contexts and checkouts are kept while a build needs them.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where cache mounts are.
    pub(crate) fn cache_mounts(&self) -> PathBuf {
        self.root.join("build-cache")
    }
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
    caches: Caches,
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
    /// Bytes on disk.
    pub bytes: u64,
}

impl Builder {
    /// A builder over `options`. What an earlier one left behind when it died is removed.
    pub fn new(options: BuilderOptions) -> Result<Self> {
        let tmp = options.tmp();
        let prepare = || -> std::io::Result<()> {
            for directory in [&tmp, &options.cache_mounts()] {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)?;
            }
            for entry in std::fs::read_dir(&tmp)? {
                let entry = entry?;
                if entry.file_name().as_bytes().starts_with(b"build-") {
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(())
        };
        prepare().map_err(|e| {
            let what = format_args!("cannot prepare {}", options.root.display());
            Error::from(berth_store::Error::io(what, e))
        })?;
        sweep(&options.store)?;
        Ok(Self {
            options: Arc::new(options),
            caches: Caches::default(),
        })
    }

    /// Builds the image that the Dockerfile in `context` describes and answers its ID; naming it is
    /// the caller's. What happens is told to `events`, in order; a full channel slows the build.
    ///
    /// A dropped future and a closed channel cancel the build: the running step is killed and what
    /// the build had made is removed, in the background.
    pub async fn build(
        &self,
        request: BuildRequest,
        context: Context,
        events: mpsc::Sender<BuildEvent>,
    ) -> Result<Built> {
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let teller = Teller::new(events, cancel);
        let received = context::receive(&self.options, context, &request, &teller).await?;
        let job = Job {
            options: self.options.clone(),
            caches: self.caches.clone(),
            request,
            context: received.archive,
            file: dockerfile::parse(&received.dockerfile, &received.name)?,
            teller,
            runtime: Handle::current(),
        };
        let built = blocking(move || solve(job)).await;
        guard.disarm();
        self.obey_policy().await;
        built
    }

    /// What fails is said in the log: the build has succeeded all the same, and the next one tries again.
    async fn obey_policy(&self) {
        if self.options.policy.is_empty() {
            return;
        }
        let this = self.clone();
        let obeyed = blocking(move || {
            let BuilderOptions { policy, store, .. } = &*this.options;
            policy::obey(policy, store, &this.caches, &this.options.cache_mounts())
        });
        if let Err(error) = obeyed.await {
            tracing::warn!(%error, "the build cache cannot be kept by its policy");
        }
    }

    /// What the cache keeps, the longest unused first.
    pub async fn usage(&self) -> Result<Vec<CacheRecord>> {
        let this = self.clone();
        blocking(move || {
            let mut records = Cache::new(this.options.store.clone()).usage()?;
            let mounts = this.caches.list(&this.options.cache_mounts());
            let mounts =
                mounts.map_err(|e| berth_store::Error::io("cannot read cache mounts", e))?;
            records.extend(mounts.into_iter().map(|mount| CacheRecord {
                id: mount.name,
                description: "mount of type cache".to_owned(),
                created: mount.changed.to_string(),
                kind: "exec.cachemount",
                in_use: mount.in_use,
                shared: false,
                size: mount.bytes,
            }));
            Ok(records)
        })
        .await
    }

    /// Forgets what the cache knows: everything with `all`, else what no image uses any more.
    pub async fn prune(&self, all: bool) -> Result<Pruned> {
        let this = self.clone();
        blocking(move || {
            let ids = Cache::new(this.options.store.clone()).prune(all)?;
            let mut bytes = this.options.store.collect()?.bytes;
            if all {
                bytes += this
                    .caches
                    .prune(&this.options.cache_mounts())
                    .map_err(|e| berth_store::Error::io("cannot remove cache mounts", e))?;
            }
            Ok(Pruned { ids, bytes })
        })
        .await
    }
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(
            ErrorKind::Internal,
            format!("the build stopped unexpectedly: {error}"),
        )),
    }
}
