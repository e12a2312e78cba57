//! The bundle of services.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use berth_distribution::Client;
use berth_network::NetworkOptions;
use berth_store::Store;

use crate::{Error, Result};

/// How an engine is set up. Nothing is read from the environment: the daemon passes it in.
pub struct EngineOptions {
    /// What must survive a restart of the machine (`--data-root`).
    pub root: PathBuf,
    /// What need not: sockets, sandboxes, shims (`--exec-root`).
    pub run_dir: PathBuf,
    /// The networks' settings.
    pub network: NetworkOptions,
    /// How registries are reached.
    pub client: Client,
    /// `--cgroup-parent`; `/docker` of Docker is `/berth` here where it is empty.
    pub cgroup_parent: String,
    /// Log options of containers that name none: `max-size`, `max-file` …
    pub log_opts: BTreeMap<String, String>,
    /// Log driver of containers that name none; `json-file` where it is empty.
    pub log_driver: String,
    /// `--dns`, `--dns-search`, `--dns-opt`.
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `--label`, shown by `info`.
    pub labels: Vec<String>,
    /// `--default-ulimit name=soft[:hard]`, parsed.
    pub ulimits: Vec<berth_spec::docker::config::Ulimit>,
    /// Bytes of `/dev/shm` where a container asks for none; 0 for 64 MiB.
    pub shm_size: u64,
    /// `--init`: every container that does not say otherwise has an init.
    pub init: bool,
    /// Further OCI runtimes by name (`--add-runtime`), with the path of their binary.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Proxy variables (`HTTP_PROXY` …) shown by `info`.
    pub proxies: BTreeMap<String, String>,
    /// Version of the program, shown by `version` and `info`.
    pub version: String,
    /// Commit of the program.
    pub commit: String,
}

/// Containers, images, volumes and networks of one root directory; cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) client: Client,
}

impl Engine {
    /// Opens the engine below `options.root`: finds running containers again, makes the kernel agree
    /// with the records, and applies restart policies.
    pub async fn open(options: EngineOptions) -> Result<Self> {
        let _ = options;
        Err(Error::internal("the engine cannot be opened by this build"))
    }

    /// The store, for builders.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// How registries are reached, for builders.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Ends background work. Containers go on. With `stop_containers`, they are stopped first.
    pub async fn shutdown(&self) {}

    /// Whether the engine has something to look after: running containers, or verbs under way.
    pub fn busy(&self) -> bool {
        false
    }
}

/// For bodies that are not there.
pub(crate) fn absent<T>(what: &str) -> Result<T> {
    Err(Error::not_implemented(format!("{what}: not in this build")))
}
