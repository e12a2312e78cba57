//! What a build is asked for.

use std::collections::BTreeMap;

use berth_distribution::{Credentials, Secret};

/// The options of one build, as `POST /build` knows them.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Path of the Dockerfile in the context; empty for `Dockerfile`.
    pub dockerfile: String,
    /// The stage to stop at, by name or number; empty for the last.
    pub target: String,
    /// Values of `ARG`s. `None`: named without a value, so that the default holds.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Labels of the image, over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Run every step, whatever the cache knows.
    pub no_cache: bool,
    /// Ask the registry for base images even if they are here.
    pub pull: bool,
    /// Say that intermediate containers were removed after a step that went well (Docker's
    /// default). They are removed in any case: nothing of a step outlives it.
    pub remove: bool,
    /// Say so after a failure too.
    pub force_remove: bool,
    /// The network of `RUN` steps; empty for the default.
    pub network: String,
    /// `name:address`, more hosts for `RUN` steps.
    pub extra_hosts: Vec<String>,
    /// Bounds of each `RUN` step.
    pub limits: Limits,
    /// Limits of the processes of `RUN` steps.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm` in `RUN` steps; 0 for the default.
    pub shm_size: u64,
    /// `os[/arch[/variant]]` of the image; empty for the host's.
    pub platform: String,
    /// Images whose layers may serve as cache. Accepted; the build cache is content-addressed and
    /// needs no such hint.
    pub cache_from: Vec<String>,
    /// Docker's experimental `--squash`, which is refused.
    pub squash: bool,
    /// Security options of `RUN` steps.
    pub security_opt: Vec<String>,
    /// Credentials by registry host, as the client's `X-Registry-Config` has them.
    pub credentials: BTreeMap<String, Credentials>,
    /// Contents for `RUN --mount=type=secret`, by ID.
    pub secrets: BTreeMap<String, Secret>,
}

/// Bounds of a step's cgroup; 0 and empty mean none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: i64,
    /// Bytes, memory and swap together; -1 for unlimited swap.
    pub memory_swap: i64,
    /// Relative weight.
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds in each period.
    pub cpu_quota: i64,
    /// `0-3,5`.
    pub cpuset_cpus: String,
    /// `0-3,5`.
    pub cpuset_mems: String,
    /// The parent cgroup.
    pub cgroup_parent: String,
}

/// One limit of a process, as `setrlimit` knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// -1 for unlimited.
    pub soft: i64,
    /// -1 for unlimited.
    pub hard: i64,
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image's ID. It has no name yet.
    pub image_id: berth_spec::Digest,
}
