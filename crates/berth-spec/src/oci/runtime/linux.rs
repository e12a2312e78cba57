//! What is particular to Linux (config-linux.md), without resources and seccomp.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LinuxResources, LinuxSeccomp};

document! {
    /// The `linux` object.
    pub struct Linux {
        ;
        pub uid_mappings: Vec<IdMapping>,
        pub gid_mappings: Vec<IdMapping>,
        pub sysctl: BTreeMap<String, String>,
        pub resources: Option<LinuxResources>,
        /// Relative to the cgroup mounts; `slice:prefix:name` for the systemd driver.
        pub cgroups_path: String,
        pub namespaces: Vec<Namespace>,
        pub devices: Vec<Device>,
        pub seccomp: Option<LinuxSeccomp>,
        /// `private`, `shared`, `slave` or `unbindable`, each also with an `r` before.
        pub rootfs_propagation: String,
        pub masked_paths: Vec<String>,
        pub readonly_paths: Vec<String>,
        pub mount_label: String,
        pub intel_rdt: Option<IntelRdt>,
        pub personality: Option<Personality>,
        /// Of the time namespace, by clock: `monotonic`, `boottime`.
        pub time_offsets: BTreeMap<String, TimeOffset>,
    }

    /// A range of IDs in a user namespace.
    #[derive(Copy, Eq)]
    pub struct IdMapping {
        #[serde(rename = "containerID")]
        pub container_id: u32,
        #[serde(rename = "hostID")]
        pub host_id: u32,
        pub size: u32,
        ;
    }

    /// A namespace to make, or to join by its path.
    #[derive(Eq)]
    pub struct Namespace {
        #[serde(rename = "type")]
        pub kind: NamespaceKind,
        ;
        /// Absolute, as `/proc/42/ns/net`; empty means a new one.
        pub path: String,
    }

    /// A device node to make in the container.
    #[derive(Eq)]
    pub struct Device {
        #[serde(rename = "type")]
        pub kind: DeviceKind,
        /// Absolute, inside the container.
        pub path: String,
        ;
        pub major: i64,
        pub minor: i64,
        /// Permission bits.
        pub file_mode: Option<u32>,
        pub uid: Option<u32>,
        pub gid: Option<u32>,
    }

    /// Cache and memory bandwidth of Intel's RDT.
    pub struct IntelRdt {
        ;
        #[serde(rename = "closID")]
        pub clos_id: String,
        pub l3_cache_schema: String,
        pub mem_bw_schema: String,
        #[serde(rename = "enableCMT")]
        pub enable_cmt: bool,
        #[serde(rename = "enableMBM")]
        pub enable_mbm: bool,
    }

    /// personality(2).
    pub struct Personality {
        /// `LINUX` or `LINUX32`.
        pub domain: String,
        ;
        pub flags: Vec<String>,
    }

    /// Offset of one clock.
    #[derive(Copy, Eq)]
    pub struct TimeOffset {
        ;
        pub secs: i64,
        pub nanosecs: u32,
    }
}

/// The kinds of namespaces(7).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    #[default]
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

/// What a device node, or a device rule, is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceKind {
    /// In a rule: both kinds.
    #[default]
    #[serde(rename = "a", alias = "")]
    All,
    #[serde(rename = "b")]
    Block,
    /// mknod(1) calls it `u` too.
    #[serde(rename = "c", alias = "u")]
    Char,
    #[serde(rename = "p")]
    Fifo,
}
