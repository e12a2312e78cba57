//! The engine itself: version, information, events, disk usage, errors.

use std::collections::BTreeMap;

use super::container::ContainerSummary;
use super::image::ImageSummary;
use super::volume::Volume;

wire! {
    /// The body of every answer that is an error.
    #[serde(rename_all = "camelCase")]
    pub struct ErrorBody {
        pub message: String,
    }

    /// Answer of `GET /version`.
    #[serde(rename_all = "PascalCase")]
    pub struct VersionResponse {
        pub platform: PlatformName,
        pub components: Vec<Component>,
        pub version: String,
        pub api_version: String,
        #[serde(rename = "MinAPIVersion")]
        pub min_api_version: String,
        pub git_commit: String,
        pub go_version: String,
        pub os: String,
        pub arch: String,
        pub kernel_version: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub experimental: bool,
        pub build_time: String,
    }

    /// What the engine calls itself.
    #[serde(rename_all = "PascalCase")]
    pub struct PlatformName {
        pub name: String,
    }

    /// A part of the engine with its version.
    #[serde(rename_all = "PascalCase")]
    pub struct Component {
        pub name: String,
        pub version: String,
        pub details: Option<BTreeMap<String, String>>,
    }

    /// Answer of `GET /info`.
    #[serde(rename_all = "PascalCase")]
    pub struct SystemInfo {
        #[serde(rename = "ID")]
        pub id: String,
        pub containers: i64,
        pub containers_running: i64,
        pub containers_paused: i64,
        pub containers_stopped: i64,
        pub images: i64,
        pub driver: String,
        pub driver_status: Vec<[String; 2]>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub system_status: Vec<[String; 2]>,
        pub plugins: PluginsInfo,
        pub memory_limit: bool,
        pub swap_limit: bool,
        #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "crate::docker::zero")]
        pub kernel_memory_tcp: bool,
        pub cpu_cfs_period: bool,
        pub cpu_cfs_quota: bool,
        #[serde(rename = "CPUShares")]
        pub cpu_shares: bool,
        #[serde(rename = "CPUSet")]
        pub cpu_set: bool,
        pub pids_limit: bool,
        #[serde(rename = "IPv4Forwarding")]
        pub ipv4_forwarding: bool,
        pub debug: bool,
        pub n_fd: i64,
        pub oom_kill_disable: bool,
        #[serde(rename = "NGoroutines")]
        pub n_goroutines: i64,
        pub system_time: String,
        pub logging_driver: String,
        pub cgroup_driver: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub cgroup_version: String,
        pub n_events_listener: i64,
        pub kernel_version: String,
        pub operating_system: String,
        #[serde(rename = "OSVersion")]
        pub os_version: String,
        #[serde(rename = "OSType")]
        pub os_type: String,
        pub architecture: String,
        pub index_server_address: String,
        pub registry_config: Option<RegistryConfig>,
        /// What registries said about how much may still be pulled; berth's own.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub registry_quotas: Vec<RegistryQuota>,
        #[serde(rename = "NCPU")]
        pub ncpu: i64,
        pub mem_total: i64,
        pub generic_resources: Option<Vec<serde_json::Value>>,
        pub docker_root_dir: String,
        pub http_proxy: String,
        pub https_proxy: String,
        pub no_proxy: String,
        pub name: String,
        pub labels: Vec<String>,
        pub experimental_build: bool,
        pub server_version: String,
        pub runtimes: BTreeMap<String, RuntimeInfo>,
        pub default_runtime: String,
        pub swarm: SwarmInfo,
        pub live_restore_enabled: bool,
        pub isolation: String,
        pub init_binary: String,
        pub containerd_commit: Commit,
        pub runc_commit: Commit,
        pub init_commit: Commit,
        pub security_options: Vec<String>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub product_license: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub default_address_pools: Option<Vec<AddressPool>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub firewall_backend: Option<FirewallInfo>,
        #[serde(rename = "CDISpecDirs")]
        pub cdi_spec_dirs: Vec<String>,
        pub warnings: Option<Vec<String>>,
    }

    /// Which plugins there are, by kind.
    #[serde(rename_all = "PascalCase")]
    pub struct PluginsInfo {
        pub volume: Vec<String>,
        pub network: Vec<String>,
        pub authorization: Option<Vec<String>>,
        pub log: Vec<String>,
    }

    /// How registries are reached.
    #[serde(rename_all = "PascalCase")]
    pub struct RegistryConfig {
        #[serde(rename = "InsecureRegistryCIDRs")]
        pub insecure_registry_cidrs: Vec<String>,
        pub index_configs: BTreeMap<String, IndexConfig>,
        pub mirrors: Vec<String>,
    }

    /// How much may still be pulled from a registry.
    #[serde(rename_all = "PascalCase")]
    pub struct RegistryQuota {
        pub registry: String,
        /// Pulls allowed, and left.
        pub limit: u64,
        pub remaining: u64,
        /// Seconds that they are counted over; 0 where it was not said.
        pub window: u64,
        /// The address or account that they are counted for.
        pub source: String,
    }

    /// One registry.
    #[serde(rename_all = "PascalCase")]
    pub struct IndexConfig {
        pub name: String,
        pub mirrors: Vec<String>,
        pub secure: bool,
        pub official: bool,
    }

    /// An OCI runtime by its path.
    pub struct RuntimeInfo {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub path: String,
        #[serde(rename = "runtimeArgs", skip_serializing_if = "crate::docker::zero")]
        pub runtime_args: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub status: Option<BTreeMap<String, String>>,
    }

    /// Swarm's state; `inactive` here.
    #[serde(rename_all = "PascalCase")]
    pub struct SwarmInfo {
        #[serde(rename = "NodeID")]
        pub node_id: String,
        pub node_addr: String,
        pub local_node_state: String,
        pub control_available: bool,
        pub error: String,
        pub remote_managers: Option<Vec<serde_json::Value>>,
    }

    /// The commit a part was built from.
    pub struct Commit {
        #[serde(rename = "ID")]
        pub id: String,
    }

    /// A range networks are carved from.
    #[serde(rename_all = "PascalCase")]
    pub struct AddressPool {
        pub base: String,
        pub size: u32,
    }

    /// What holds the packet rules.
    #[serde(rename_all = "PascalCase")]
    pub struct FirewallInfo {
        pub driver: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub info: Vec<[String; 2]>,
    }

    /// One line of `GET /events`.
    pub struct Event {
        /// For containers and images only, as clients of 2014 know it.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub status: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub id: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub from: String,
        #[serde(rename = "Type")]
        pub kind: String,
        #[serde(rename = "Action")]
        pub action: String,
        #[serde(rename = "Actor")]
        pub actor: Actor,
        pub scope: String,
        /// Seconds since the epoch.
        pub time: i64,
        /// Nanoseconds since the epoch.
        #[serde(rename = "timeNano")]
        pub time_nano: i64,
    }

    /// What an event happened to.
    pub struct Actor {
        #[serde(rename = "ID")]
        pub id: String,
        #[serde(rename = "Attributes")]
        pub attributes: BTreeMap<String, String>,
    }

    /// Answer of `GET /system/df`.
    #[serde(rename_all = "PascalCase")]
    pub struct DiskUsage {
        /// Bytes of all layers, each counted once.
        pub layers_size: i64,
        pub images: Vec<ImageSummary>,
        pub containers: Vec<ContainerSummary>,
        pub volumes: Vec<Volume>,
        pub build_cache: Vec<BuildCacheRecord>,
    }

    /// One entry of the build cache.
    #[serde(rename_all = "PascalCase")]
    pub struct BuildCacheRecord {
        #[serde(rename = "ID")]
        pub id: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub parents: Vec<String>,
        #[serde(rename = "Type")]
        pub kind: String,
        pub description: String,
        pub in_use: bool,
        pub shared: bool,
        /// Bytes.
        pub size: i64,
        pub created_at: String,
        pub last_used_at: Option<String>,
        pub usage_count: i64,
    }
}
