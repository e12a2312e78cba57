//! What a container is asked to be: the portable part ([`ContainerConfig`]) and the part
//! that belongs to this host ([`HostConfig`]).

use std::collections::BTreeMap;

use super::port::PortMap;
use super::{Empty, Words};

wire! {
    /// The portable part of a container's configuration; also what an image carries.
    #[serde(rename_all = "PascalCase")]
    pub struct ContainerConfig {
        pub hostname: String,
        pub domainname: String,
        pub user: String,
        pub attach_stdin: bool,
        pub attach_stdout: bool,
        pub attach_stderr: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub exposed_ports: BTreeMap<String, Empty>,
        pub tty: bool,
        pub open_stdin: bool,
        pub stdin_once: bool,
        pub env: Option<Vec<String>>,
        pub cmd: Option<Words>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub args_escaped: bool,
        pub image: String,
        pub volumes: Option<BTreeMap<String, Empty>>,
        pub working_dir: String,
        pub entrypoint: Option<Words>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub network_disabled: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub mac_address: String,
        pub on_build: Option<Vec<String>>,
        pub labels: Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub stop_signal: String,
        /// Seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub shell: Option<Words>,
    }

    /// How the health of a container is probed. Times are nanoseconds.
    #[serde(rename_all = "PascalCase")]
    pub struct HealthConfig {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub test: Vec<String>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub interval: i64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub timeout: i64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub start_period: i64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub start_interval: i64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub retries: i64,
    }

    /// The part of a container's configuration that belongs to this host.
    #[serde(rename_all = "PascalCase")]
    pub struct HostConfig {
        pub binds: Option<Vec<String>>,
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        pub log_config: LogConfig,
        pub network_mode: String,
        pub port_bindings: Option<PortMap>,
        pub restart_policy: RestartPolicy,
        pub auto_remove: bool,
        pub volume_driver: String,
        pub volumes_from: Option<Vec<String>>,
        /// Height, width.
        pub console_size: [u32; 2],
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub annotations: Option<BTreeMap<String, String>>,
        pub cap_add: Option<Words>,
        pub cap_drop: Option<Words>,
        pub cgroupns_mode: String,
        pub dns: Option<Vec<String>>,
        pub dns_options: Option<Vec<String>>,
        pub dns_search: Option<Vec<String>>,
        pub extra_hosts: Option<Vec<String>>,
        pub group_add: Option<Vec<String>>,
        pub ipc_mode: String,
        pub cgroup: String,
        pub links: Option<Vec<String>>,
        pub oom_score_adj: i64,
        pub pid_mode: String,
        pub privileged: bool,
        pub publish_all_ports: bool,
        pub readonly_rootfs: bool,
        pub security_opt: Option<Vec<String>>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub storage_opt: Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub tmpfs: Option<BTreeMap<String, String>>,
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        pub userns_mode: String,
        /// Bytes; zero for the engine's default.
        pub shm_size: i64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub sysctls: Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub runtime: String,
        pub isolation: String,

        pub cpu_shares: i64,
        /// Bytes.
        pub memory: i64,
        pub nano_cpus: i64,
        pub cgroup_parent: String,
        pub blkio_weight: u16,
        pub blkio_weight_device: Option<Vec<WeightDevice>>,
        pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
        pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
        #[serde(rename = "BlkioDeviceReadIOps")]
        pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
        #[serde(rename = "BlkioDeviceWriteIOps")]
        pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
        /// Microseconds.
        pub cpu_period: i64,
        /// Microseconds.
        pub cpu_quota: i64,
        /// Microseconds.
        pub cpu_realtime_period: i64,
        /// Microseconds.
        pub cpu_realtime_runtime: i64,
        pub cpuset_cpus: String,
        pub cpuset_mems: String,
        pub devices: Option<Vec<DeviceMapping>>,
        pub device_cgroup_rules: Option<Vec<String>>,
        pub device_requests: Option<Vec<DeviceRequest>>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub kernel_memory: i64,
        #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "crate::docker::zero")]
        pub kernel_memory_tcp: i64,
        /// Bytes.
        pub memory_reservation: i64,
        /// Bytes, memory and swap together; -1 for unlimited swap.
        pub memory_swap: i64,
        pub memory_swappiness: Option<i64>,
        pub oom_kill_disable: Option<bool>,
        pub pids_limit: Option<i64>,
        pub ulimits: Option<Vec<Ulimit>>,
        pub cpu_count: i64,
        pub cpu_percent: i64,
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,

        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub mounts: Option<Vec<Mount>>,
        pub masked_paths: Option<Vec<String>>,
        pub readonly_paths: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
    }

    /// The limits that `POST /containers/{id}/update` may change. A zero leaves a limit as it is.
    #[serde(rename_all = "PascalCase")]
    pub struct Resources {
        pub cpu_shares: i64,
        pub memory: i64,
        pub nano_cpus: i64,
        pub cgroup_parent: String,
        pub blkio_weight: u16,
        pub cpu_period: i64,
        pub cpu_quota: i64,
        pub cpu_realtime_period: i64,
        pub cpu_realtime_runtime: i64,
        pub cpuset_cpus: String,
        pub cpuset_mems: String,
        pub memory_reservation: i64,
        pub memory_swap: i64,
        pub memory_swappiness: Option<i64>,
        pub oom_kill_disable: Option<bool>,
        pub pids_limit: Option<i64>,
        pub ulimits: Option<Vec<Ulimit>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub restart_policy: Option<RestartPolicy>,
        /// Mounts to attach, at once where the container runs. Docker has nothing like it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mounts_add: Option<Vec<Mount>>,
        /// The same in the notation of `-v`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub binds_add: Option<Vec<String>>,
        /// Targets of mounts to take away.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mounts_remove: Option<Vec<String>>,
    }

    /// Where a container's output is kept.
    #[serde(rename_all = "PascalCase")]
    pub struct LogConfig {
        #[serde(rename = "Type")]
        pub kind: String,
        pub config: BTreeMap<String, String>,
    }

    /// What happens when the container exits: `no`, `always`, `unless-stopped`, `on-failure`.
    #[serde(rename_all = "PascalCase")]
    pub struct RestartPolicy {
        pub name: String,
        pub maximum_retry_count: i64,
    }

    /// A device of the host shown inside.
    #[serde(rename_all = "PascalCase")]
    pub struct DeviceMapping {
        pub path_on_host: String,
        pub path_in_container: String,
        pub cgroup_permissions: String,
    }

    /// A request to a device driver (GPUs).
    #[serde(rename_all = "PascalCase")]
    pub struct DeviceRequest {
        pub driver: String,
        pub count: i64,
        #[serde(rename = "DeviceIDs")]
        pub device_ids: Option<Vec<String>>,
        pub capabilities: Option<Vec<Vec<String>>>,
        pub options: Option<BTreeMap<String, String>>,
    }

    /// A resource limit of processes (`nofile`, `nproc` …).
    #[serde(rename_all = "PascalCase")]
    pub struct Ulimit {
        pub name: String,
        pub hard: i64,
        pub soft: i64,
    }

    /// A block device's share.
    #[serde(rename_all = "PascalCase")]
    pub struct WeightDevice {
        pub path: String,
        pub weight: u16,
    }

    /// A block device's limit, in bytes or operations per second.
    #[serde(rename_all = "PascalCase")]
    pub struct ThrottleDevice {
        pub path: String,
        pub rate: u64,
    }

    /// A mount as `--mount` describes it.
    #[serde(rename_all = "PascalCase")]
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
        #[serde(rename = "Type", skip_serializing_if = "crate::docker::zero")]
        pub kind: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub source: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub target: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub read_only: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub consistency: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_options: Option<ImageOptions>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
    }

    /// Options of a bind mount.
    #[serde(rename_all = "PascalCase")]
    pub struct BindOptions {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub propagation: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub non_recursive: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub create_mountpoint: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub read_only_non_recursive: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub read_only_force_recursive: bool,
    }

    /// Options of a volume mount.
    #[serde(rename_all = "PascalCase")]
    pub struct VolumeOptions {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub no_copy: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub labels: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub subpath: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<DriverConfig>,
    }

    /// A volume driver and its options.
    #[serde(rename_all = "PascalCase")]
    pub struct DriverConfig {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub name: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub options: BTreeMap<String, String>,
    }

    /// Options of an image mount.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageOptions {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub subpath: String,
    }

    /// Options of a tmpfs mount.
    #[serde(rename_all = "PascalCase")]
    pub struct TmpfsOptions {
        /// Bytes.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub size_bytes: i64,
        /// Permission bits.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub mode: u32,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub options: Vec<Vec<String>>,
    }
}
