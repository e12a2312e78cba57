//! The container's process (config.md, "Process").

document! {
    /// What is run, as whom, with which rights.
    pub struct Process {
        pub user: User,
        pub args: Vec<String>,
        /// Absolute.
        pub cwd: String,
        ;
        pub terminal: bool,
        pub console_size: Option<ConsoleSize>,
        /// `NAME=value`.
        pub env: Vec<String>,
        pub capabilities: Option<Capabilities>,
        pub rlimits: Vec<Rlimit>,
        pub no_new_privileges: bool,
        pub apparmor_profile: String,
        /// -1000 to 1000.
        pub oom_score_adj: Option<i32>,
        pub selinux_label: String,
        pub scheduler: Option<Scheduler>,
        pub io_priority: Option<IoPriority>,
        #[serde(rename = "execCPUAffinity")]
        pub exec_cpu_affinity: Option<ExecCpuAffinity>,
    }

    /// Size of the terminal, in characters.
    #[derive(Copy, Eq)]
    pub struct ConsoleSize {
        pub height: u16,
        pub width: u16,
        ;
    }

    /// Numeric identity, inside the container's user namespace.
    pub struct User {
        pub uid: u32,
        pub gid: u32,
        ;
        pub umask: Option<u32>,
        pub additional_gids: Vec<u32>,
        pub username: String,
    }

    /// The five capability sets, by name (`CAP_CHOWN`).
    #[derive(Eq)]
    pub struct Capabilities {
        ;
        pub bounding: Vec<String>,
        pub effective: Vec<String>,
        pub inheritable: Vec<String>,
        pub permitted: Vec<String>,
        pub ambient: Vec<String>,
    }

    /// One resource limit of setrlimit(2).
    #[derive(Eq)]
    pub struct Rlimit {
        /// As `RLIMIT_NOFILE`.
        #[serde(rename = "type")]
        pub kind: String,
        pub hard: u64,
        pub soft: u64,
        ;
    }

    /// sched_setattr(2).
    pub struct Scheduler {
        /// As `SCHED_OTHER`.
        pub policy: String,
        ;
        pub nice: i32,
        pub priority: i32,
        /// As `SCHED_FLAG_RESET_ON_FORK`.
        pub flags: Vec<String>,
        /// Nanoseconds.
        pub runtime: u64,
        /// Nanoseconds.
        pub deadline: u64,
        /// Nanoseconds.
        pub period: u64,
    }

    /// ioprio_set(2).
    pub struct IoPriority {
        /// As `IOPRIO_CLASS_BE`.
        pub class: String,
        /// 0 (highest) to 7.
        pub priority: i32,
        ;
    }

    /// CPUs on which an exec'ed process starts and goes on, as lists (`0-3,7`).
    pub struct ExecCpuAffinity {
        ;
        pub initial: String,
        #[serde(rename = "final")]
        pub final_: String,
    }
}
