//! Containers: create, inspect, list and the small answers around them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::{ContainerConfig, HealthConfig, HostConfig};
use super::network::{EndpointSettings, NetworkingConfig};
use super::port::PortMap;

/// Body of `POST /containers/create`: the configuration with two more fields beside its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerCreateBody {
    /// The portable part, its fields at the top level of the body.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// The part of this host.
    #[serde(rename = "HostConfig", default, deserialize_with = "super::nullable")]
    pub host_config: HostConfig,
    /// The networks to join.
    #[serde(
        rename = "NetworkingConfig",
        default,
        deserialize_with = "super::nullable"
    )]
    pub networking_config: NetworkingConfig,
}

wire! {
    /// Answer of `POST /containers/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct ContainerCreateResponse {
        pub id: String,
        pub warnings: Vec<String>,
    }

    /// Answer of `GET /containers/{id}/json`.
    #[serde(rename_all = "PascalCase")]
    pub struct ContainerInspect {
        pub id: String,
        /// RFC 3339 with nanoseconds.
        pub created: String,
        pub path: String,
        pub args: Vec<String>,
        pub state: ContainerState,
        pub image: String,
        pub resolv_conf_path: String,
        pub hostname_path: String,
        pub hosts_path: String,
        pub log_path: String,
        pub name: String,
        pub restart_count: i64,
        pub driver: String,
        pub platform: String,
        pub mount_label: String,
        pub process_label: String,
        pub app_armor_profile: String,
        #[serde(rename = "ExecIDs")]
        pub exec_ids: Option<Vec<String>>,
        pub host_config: HostConfig,
        pub graph_driver: GraphDriver,
        /// Bytes; only when asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        /// Bytes; only when asked for.
        #[serde(rename = "SizeRootFs", skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        pub mounts: Vec<MountPoint>,
        pub config: ContainerConfig,
        pub network_settings: NetworkSettings,
        /// Of its user namespace; berth's own field, named as podman's.
        #[serde(rename = "IDMappings", skip_serializing_if = "Option::is_none")]
        pub id_mappings: Option<IdMappings>,
    }

    /// Which IDs of the host the IDs of a container are: `container:host:count`.
    #[serde(rename_all = "PascalCase")]
    pub struct IdMappings {
        pub uid_map: Vec<String>,
        pub gid_map: Vec<String>,
    }

    /// Where a container stands in its life.
    #[serde(rename_all = "PascalCase")]
    pub struct ContainerState {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        pub status: String,
        pub running: bool,
        pub paused: bool,
        pub restarting: bool,
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        pub dead: bool,
        pub pid: i64,
        pub exit_code: i64,
        pub error: String,
        /// RFC 3339, [`super::ZERO_TIME`] before the first start.
        pub started_at: String,
        /// RFC 3339, [`super::ZERO_TIME`] before the first exit.
        pub finished_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<Health>,
    }

    /// What the health probes found.
    #[serde(rename_all = "PascalCase")]
    pub struct Health {
        /// `none`, `starting`, `healthy` or `unhealthy`.
        pub status: String,
        pub failing_streak: i64,
        pub log: Option<Vec<HealthResult>>,
    }

    /// One health probe.
    #[serde(rename_all = "PascalCase")]
    pub struct HealthResult {
        pub start: String,
        pub end: String,
        pub exit_code: i64,
        pub output: String,
    }

    /// The storage driver behind a root file system.
    #[serde(rename_all = "PascalCase")]
    pub struct GraphDriver {
        pub data: Option<BTreeMap<String, String>>,
        pub name: String,
    }

    /// A mount as the container has it.
    #[serde(rename_all = "PascalCase")]
    pub struct MountPoint {
        #[serde(rename = "Type", skip_serializing_if = "crate::docker::zero")]
        pub kind: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub name: String,
        pub source: String,
        pub destination: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub driver: String,
        pub mode: String,
        #[serde(rename = "RW")]
        pub rw: bool,
        pub propagation: String,
    }

    /// A container's networks, and (for old clients) its place in the default one.
    #[serde(rename_all = "PascalCase")]
    pub struct NetworkSettings {
        pub bridge: String,
        #[serde(rename = "SandboxID")]
        pub sandbox_id: String,
        pub sandbox_key: String,
        pub ports: PortMap,
        pub hairpin_mode: bool,
        #[serde(rename = "LinkLocalIPv6Address")]
        pub link_local_ipv6_address: String,
        #[serde(rename = "LinkLocalIPv6PrefixLen")]
        pub link_local_ipv6_prefix_len: u8,
        #[serde(rename = "SecondaryIPAddresses")]
        pub secondary_ip_addresses: Option<Vec<SecondaryAddress>>,
        #[serde(rename = "SecondaryIPv6Addresses")]
        pub secondary_ipv6_addresses: Option<Vec<SecondaryAddress>>,
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        pub gateway: String,
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        pub mac_address: String,
        pub networks: BTreeMap<String, EndpointSettings>,
    }

    /// A further address of an endpoint.
    #[serde(rename_all = "PascalCase")]
    pub struct SecondaryAddress {
        pub addr: String,
        pub prefix_len: u8,
    }

    /// One line of `GET /containers/json`.
    #[serde(rename_all = "PascalCase")]
    pub struct ContainerSummary {
        pub id: String,
        /// Each begins with a slash.
        pub names: Vec<String>,
        pub image: String,
        #[serde(rename = "ImageID")]
        pub image_id: String,
        pub command: String,
        /// Seconds since the epoch.
        pub created: i64,
        pub ports: Vec<PortSummary>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        #[serde(rename = "SizeRootFs", skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        pub labels: BTreeMap<String, String>,
        pub state: String,
        pub status: String,
        pub host_config: SummaryHostConfig,
        pub network_settings: SummaryNetworkSettings,
        pub mounts: Vec<MountPoint>,
    }

    /// One port in a list.
    #[serde(rename_all = "PascalCase")]
    pub struct PortSummary {
        #[serde(rename = "IP", skip_serializing_if = "crate::docker::zero")]
        pub ip: String,
        pub private_port: u16,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub public_port: u16,
        #[serde(rename = "Type")]
        pub kind: String,
    }

    /// What a list tells of the host configuration.
    #[serde(rename_all = "PascalCase")]
    pub struct SummaryHostConfig {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub network_mode: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub annotations: BTreeMap<String, String>,
    }

    /// What a list tells of the networks.
    #[serde(rename_all = "PascalCase")]
    pub struct SummaryNetworkSettings {
        pub networks: BTreeMap<String, EndpointSettings>,
    }

    /// Answer of `POST /containers/{id}/wait`.
    #[serde(rename_all = "PascalCase")]
    pub struct WaitResponse {
        pub status_code: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<WaitError>,
        /// Why it ended, where that is more than its own exit. Docker has no such field.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub cause: String,
    }

    /// Why waiting failed.
    #[serde(rename_all = "PascalCase")]
    pub struct WaitError {
        pub message: String,
    }

    /// Answer of `GET /containers/{id}/top`.
    #[serde(rename_all = "PascalCase")]
    pub struct TopResponse {
        pub processes: Vec<Vec<String>>,
        pub titles: Vec<String>,
    }

    /// One line of `GET /containers/{id}/changes`.
    #[serde(rename_all = "PascalCase")]
    pub struct Change {
        pub path: String,
        /// 0 modified, 1 added, 2 deleted.
        pub kind: u8,
    }

    /// Ports that `POST /containers/{id}/update` publishes and takes back. Docker has no such fields.
    #[serde(rename_all = "PascalCase")]
    pub struct PublishChanges {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub publish_add: PortMap,
        /// `8080`, `8080/udp`, `127.0.0.1:8080`: host ports.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub publish_rm: Option<Vec<String>>,
    }

    /// Answer of `POST /containers/{id}/update`.
    #[serde(rename_all = "PascalCase")]
    pub struct UpdateResponse {
        pub warnings: Vec<String>,
        /// The targets of all mounts, where mounts were changed. An engine that does not say so did
        /// not change them.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mounts: Option<Vec<String>>,
    }

    /// Answer of `POST /containers/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct ContainersPruned {
        pub containers_deleted: Option<Vec<String>>,
        pub space_reclaimed: u64,
    }

    /// A file's description in the `X-Docker-Container-Path-Stat` header (base64 of JSON).
    #[serde(rename_all = "camelCase")]
    pub struct PathStat {
        pub name: String,
        pub size: i64,
        /// Go's `os.FileMode`: permission bits, directory at bit 31, symlink at bit 27 …
        pub mode: u32,
        /// RFC 3339.
        pub mtime: String,
        pub link_target: String,
    }

    /// Body of `POST /commit`: changes to the configuration of the image to be.
    #[serde(rename_all = "PascalCase")]
    pub struct CommitResponse {
        pub id: String,
    }
}

/// The health configuration lives beside the container's; named here for readers of the
/// inspect answer.
pub type Healthcheck = HealthConfig;

/// Body of `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UpdateBody {
    /// Limits.
    #[serde(flatten)]
    pub resources: super::Resources,
    /// Ports.
    #[serde(flatten)]
    pub ports: PublishChanges,
}
