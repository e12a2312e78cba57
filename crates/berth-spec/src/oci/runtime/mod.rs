//! A bundle's `config.json` for Linux (runtime-spec 1.2) as plain data.
//!
//! Reading is tolerant: a field that is absent or `null` reads as its zero value, and what is
//! not known here is passed over. Writing leaves out what is empty, as the specification's Go
//! types do, except fields that the specification requires. An `Option` stands where "not set"
//! differs from zero.
//!
//! Nothing here is checked beyond its type: a [`Spec`] that exists may still ask for what cannot
//! be. The runtime says so where it acts on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A struct of the specification: the required fields, a semicolon, then the fields that are
/// left out when empty.
macro_rules! document {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$required_meta:meta])* pub $required:ident : $required_ty:ty ),* $(,)?
            ;
            $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty ),* $(,)?
        }
    )*) => {$(
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name {
            $(
                $(#[$required_meta])*
                #[serde(default, deserialize_with = "crate::docker::nullable")]
                pub $required: $required_ty,
            )*
            $(
                $(#[$field_meta])*
                #[serde(
                    default,
                    deserialize_with = "crate::docker::nullable",
                    skip_serializing_if = "crate::docker::zero"
                )]
                pub $field: $ty,
            )*
        }
    )*};
}

mod linux;
mod process;
mod resources;
mod seccomp;

pub use linux::{
    Device, DeviceKind, IdMapping, IntelRdt, Linux, Namespace, NamespaceKind, Personality,
    TimeOffset,
};
pub use process::{
    Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, LinuxResources, Memory, Network,
    Pids, Rdma, ThrottleDevice, WeightDevice,
};
pub use seccomp::{
    LinuxSeccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOperator, SeccompSyscall,
};

/// The version of the specification that berth writes.
pub const OCI_VERSION: &str = "1.2.1";

/// Bytes a `config.json` may have at most.
pub const CONFIG_MAX: u64 = 16 << 20;

document! {
    /// The whole document (config.md).
    pub struct Spec {
        /// Version of the specification, as `1.2.1`.
        pub oci_version: String,
        ;
        pub process: Option<Process>,
        pub root: Option<Root>,
        pub hostname: String,
        pub domainname: String,
        /// In the order in which they are mounted.
        pub mounts: Vec<Mount>,
        pub hooks: Option<Hooks>,
        pub annotations: BTreeMap<String, String>,
        pub linux: Option<Linux>,
    }

    /// Where the root file system stands.
    pub struct Root {
        /// Absolute, or relative to the bundle.
        pub path: String,
        ;
        pub readonly: bool,
    }

    /// One mount (config.md, "Mounts").
    pub struct Mount {
        /// Absolute, inside the container.
        pub destination: String,
        ;
        /// File system type; `bind` with an empty one is told by the options.
        #[serde(rename = "type")]
        pub kind: String,
        pub source: String,
        /// Words of fstab(5) and of config-linux.md, as `ro`, `rbind`, `size=64m`.
        pub options: Vec<String>,
        /// For an ID-mapped mount.
        pub uid_mappings: Vec<IdMapping>,
        /// For an ID-mapped mount.
        pub gid_mappings: Vec<IdMapping>,
    }

    /// Programs run at points of the container's life (config.md, "POSIX-platform Hooks").
    pub struct Hooks {
        ;
        pub prestart: Vec<Hook>,
        pub create_runtime: Vec<Hook>,
        pub create_container: Vec<Hook>,
        pub start_container: Vec<Hook>,
        pub poststart: Vec<Hook>,
        pub poststop: Vec<Hook>,
    }

    /// One program of a hook point.
    pub struct Hook {
        /// Absolute.
        pub path: String,
        ;
        /// With the name of the program first; empty means the path alone.
        pub args: Vec<String>,
        /// `NAME=value`.
        pub env: Vec<String>,
        /// Seconds after which it is killed.
        pub timeout: Option<i64>,
    }

    /// What `state` answers and hooks read on standard input (runtime.md, "State").
    pub struct State {
        pub oci_version: String,
        pub id: String,
        pub status: Status,
        /// Absolute path of the bundle.
        pub bundle: String,
        ;
        /// Of the container's first process, in the runtime's PID namespace; absent once stopped.
        pub pid: Option<i32>,
        pub annotations: BTreeMap<String, String>,
    }
}

/// Where a container stands (runtime.md, "State").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Creating,
    Created,
    Running,
    Stopped,
    /// Not of the specification, but what runc answers for a frozen container.
    Paused,
}

#[cfg(test)]
mod tests;
