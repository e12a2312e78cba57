//! System call filters (config-linux.md, "Seccomp").

use serde::{Deserialize, Serialize};

document! {
    /// The `seccomp` object.
    #[derive(Eq)]
    pub struct LinuxSeccomp {
        /// For calls that no rule names.
        pub default_action: SeccompAction,
        ;
        /// With `SCMP_ACT_ERRNO` and `SCMP_ACT_TRACE`; None means `EPERM`.
        pub default_errno_ret: Option<u32>,
        /// Beside the machine's own; empty means the machine's own alone.
        pub architectures: Vec<SeccompArch>,
        /// As `SECCOMP_FILTER_FLAG_LOG`.
        pub flags: Vec<String>,
        /// A unix socket that gets the notification descriptor.
        pub listener_path: String,
        pub listener_metadata: String,
        pub syscalls: Vec<SeccompSyscall>,
    }

    /// What happens to some system calls.
    #[derive(Eq)]
    pub struct SeccompSyscall {
        pub names: Vec<String>,
        pub action: SeccompAction,
        ;
        pub errno_ret: Option<u32>,
        /// All must hold; two conditions on one argument are alternatives, as in runc.
        pub args: Vec<SeccompArg>,
    }

    /// A condition on one argument.
    #[derive(Copy, Eq)]
    pub struct SeccompArg {
        /// 0 to 5.
        pub index: u32,
        pub value: u64,
        pub op: SeccompOperator,
        ;
        /// With `SCMP_CMP_MASKED_EQ`: what the masked argument must equal.
        pub value_two: u64,
    }
}

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompAction {
    /// Also written `SCMP_ACT_KILL`.
    #[default]
    #[serde(rename = "SCMP_ACT_KILL_THREAD", alias = "SCMP_ACT_KILL")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

/// How an argument is compared, as unsigned 64-bit numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompOperator {
    #[default]
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// A system call convention; the names of libseccomp.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum SeccompArch {
    #[default]
    #[serde(rename = "SCMP_ARCH_NATIVE")]
    Native,
    #[serde(rename = "SCMP_ARCH_X86_64")]
    X86_64,
    #[serde(rename = "SCMP_ARCH_X86")]
    X86,
    #[serde(rename = "SCMP_ARCH_X32")]
    X32,
    #[serde(rename = "SCMP_ARCH_AARCH64")]
    Aarch64,
    #[serde(rename = "SCMP_ARCH_ARM")]
    Arm,
    /// One that berth does not run on; calls through it meet the kill of unknown architectures.
    #[serde(other)]
    Foreign,
}
