//! Limits (config-linux.md, "Control groups").

use std::collections::BTreeMap;

use super::DeviceKind;

document! {
    /// The `resources` object.
    pub struct LinuxResources {
        ;
        /// In order: a later rule wins.
        pub devices: Vec<DeviceRule>,
        pub memory: Option<Memory>,
        pub cpu: Option<Cpu>,
        pub pids: Option<Pids>,
        #[serde(rename = "blockIO")]
        pub block_io: Option<BlockIo>,
        pub hugepage_limits: Vec<HugepageLimit>,
        pub network: Option<Network>,
        /// By device name.
        pub rdma: BTreeMap<String, Rdma>,
        /// cgroup v2: file name to value, written as they are.
        pub unified: BTreeMap<String, String>,
    }

    /// One rule of the device controller.
    #[derive(Eq)]
    pub struct DeviceRule {
        pub allow: bool,
        #[serde(rename = "type")]
        pub kind: DeviceKind,
        ;
        /// None: all.
        pub major: Option<i64>,
        /// None: all.
        pub minor: Option<i64>,
        /// Out of `rwm`; empty means all.
        pub access: String,
    }

    /// Bytes, -1 for no limit.
    #[derive(Copy, Eq)]
    pub struct Memory {
        ;
        pub limit: Option<i64>,
        pub reservation: Option<i64>,
        /// Memory and swap together.
        pub swap: Option<i64>,
        pub kernel: Option<i64>,
        #[serde(rename = "kernelTCP")]
        pub kernel_tcp: Option<i64>,
        /// 0 to 100.
        pub swappiness: Option<u64>,
        #[serde(rename = "disableOOMKiller")]
        pub disable_oom_killer: Option<bool>,
        pub use_hierarchy: Option<bool>,
        /// On v2: refuse a limit below what is used already.
        pub check_before_update: Option<bool>,
    }

    /// Times in microseconds.
    #[derive(Eq)]
    pub struct Cpu {
        ;
        /// 2 to 262144.
        pub shares: Option<u64>,
        pub quota: Option<i64>,
        pub burst: Option<u64>,
        pub period: Option<u64>,
        pub realtime_runtime: Option<i64>,
        pub realtime_period: Option<u64>,
        /// A list, as `0-3,7`.
        pub cpus: String,
        /// A list of memory nodes.
        pub mems: String,
        pub idle: Option<i64>,
    }

    /// How many tasks may stand in the cgroup.
    #[derive(Copy, Eq)]
    pub struct Pids {
        /// 0 and below: no limit.
        pub limit: i64,
        ;
    }

    /// Block devices.
    #[derive(Eq)]
    pub struct BlockIo {
        ;
        /// 10 to 1000.
        pub weight: Option<u16>,
        pub leaf_weight: Option<u16>,
        pub weight_device: Vec<WeightDevice>,
        pub throttle_read_bps_device: Vec<ThrottleDevice>,
        pub throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice")]
        pub throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice")]
        pub throttle_write_iops_device: Vec<ThrottleDevice>,
    }

    /// The weight of one block device.
    #[derive(Copy, Eq)]
    pub struct WeightDevice {
        pub major: i64,
        pub minor: i64,
        ;
        pub weight: Option<u16>,
        pub leaf_weight: Option<u16>,
    }

    /// The rate of one block device, in bytes or operations a second.
    #[derive(Copy, Eq)]
    pub struct ThrottleDevice {
        pub major: i64,
        pub minor: i64,
        pub rate: u64,
        ;
    }

    /// The limit for one size of huge pages.
    #[derive(Eq)]
    pub struct HugepageLimit {
        /// As `2MB`.
        pub page_size: String,
        /// Bytes.
        pub limit: u64,
        ;
    }

    /// Marks on packets (v1 only).
    #[derive(Eq)]
    pub struct Network {
        ;
        #[serde(rename = "classID")]
        pub class_id: Option<u32>,
        pub priorities: Vec<InterfacePriority>,
    }

    /// The priority of packets that leave by one interface.
    #[derive(Eq)]
    pub struct InterfacePriority {
        pub name: String,
        pub priority: u32,
        ;
    }

    /// Limits for one RDMA device.
    #[derive(Copy, Eq)]
    pub struct Rdma {
        ;
        pub hca_handles: Option<u32>,
        pub hca_objects: Option<u32>,
    }
}
