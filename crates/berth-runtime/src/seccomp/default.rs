//! Docker's default profile.
//!
//! Source of the facts: moby/profiles `seccomp/default_linux.go` (the profile of moby v28 and
//! later, with AF_ALG and AF_VSOCK closed). What is not named here ends with `EPERM`; io_uring, the
//! keyring, userfaultfd and kernel modules are among that.

use berth_spec::oci::runtime::{
    LinuxSeccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOperator, SeccompSyscall,
};

use super::arch::Arch;
use crate::capability::CapSet;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Address families that no container needs and that have cost kernels dear.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Domains of personality(2): Linux, and 32-bit `uname`, each with and without short inodes; all
/// ones asks.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed to all.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget",
    "capset", "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64",
    "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "close", "close_range", "connect", "copy_file_range", "creat", "dup",
    "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat",
    "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate",
    "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat",
    "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr",
    "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate",
    "ftruncate64", "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv",
    "futex_wake", "futimesat", "getcpu", "getcwd", "getdents", "getdents64", "getegid",
    "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit",
    "get_robust_list", "getrusage", "getsid", "getsockname", "getsockopt", "get_thread_area",
    "gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy",
    "io_getevents", "io_pgetevents", "io_pgetevents_time64", "ioprio_get", "ioprio_set",
    "io_setup", "io_submit", "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lchown32", "lgetxattr", "link", "linkat", "listen",
    "listmount", "listxattr", "listxattrat", "llistxattr", "_llseek", "lremovexattr", "lseek",
    "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier", "memfd_create",
    "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2",
    "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open",
    "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64",
    "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock",
    "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat", "_newselect", "open",
    "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc",
    "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv",
    "preadv2", "prlimit64", "process_mrelease", "pselect6", "pselect6_time64", "pwrite64",
    "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recv",
    "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr",
    "removexattrat", "rename", "renameat", "renameat2", "restart_syscall", "riscv_hwprobe",
    "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
    "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr",
    "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget",
    "semop", "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg",
    "sendmsg", "sendto", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32",
    "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32",
    "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit",
    "set_robust_list", "setsid", "setsockopt", "set_thread_area", "set_tid_address", "setuid",
    "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown",
    "sigaltstack", "signalfd", "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair",
    "splice", "stat", "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat",
    "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create",
    "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
    "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask",
    "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes",
    "vfork", "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
    // Since Linux 4.8 these ask for rights over the other process.
    "process_vm_readv", "process_vm_writev", "ptrace",
];

#[rustfmt::skip]
const ALLOWED_ON_X86: &[&str] = &["arch_prctl", "modify_ldt"];

#[rustfmt::skip]
const ALLOWED_ON_ARM: &[&str] = &[
    "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls",
    "sync_file_range2",
];

/// Allowed to holders of a capability.
#[rustfmt::skip]
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_ADMIN", &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
        "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount",
        "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd",
        "setdomainname", "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
    ]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &[
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    ]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// The profile for a container with these capabilities in its bounding set, on this machine's
/// architecture and its 32-bit companions.
pub fn default_profile(caps: CapSet) -> LinuxSeccomp {
    let (architectures, own) = match Arch::NATIVE {
        Arch::Aarch64 => (vec![SeccompArch::Aarch64, SeccompArch::Arm], ALLOWED_ON_ARM),
        _ => (
            vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32],
            ALLOWED_ON_X86,
        ),
    };
    let mut syscalls = vec![allow(ALLOWED), allow(own)];
    let when = |op, value| SeccompArg {
        index: 0,
        value,
        op,
        value_two: 0,
    };
    // Every family but the two.
    for arg in [
        when(SeccompOperator::Less, AF_ALG),
        when(SeccompOperator::Equal, AF_ALG + 1),
        when(SeccompOperator::Greater, AF_VSOCK),
    ] {
        syscalls.push(allow_if("socket", arg));
    }
    for personality in PERSONALITIES {
        let arg = when(SeccompOperator::Equal, personality);
        syscalls.push(allow_if("personality", arg));
    }
    for (capability, names) in BY_CAPABILITY {
        if caps.has(capability) {
            syscalls.push(allow(names));
        }
    }
    if !caps.has("CAP_SYS_ADMIN") {
        let arg = when(SeccompOperator::MaskedEqual, NEW_NAMESPACES);
        syscalls.push(allow_if("clone", arg));
        // Its flags lie in memory, where a filter cannot look; libraries then use clone.
        syscalls.push(SeccompSyscall {
            names: vec!["clone3".to_owned()],
            action: SeccompAction::Errno,
            errno_ret: Some(ENOSYS),
            args: Vec::new(),
        });
    }
    LinuxSeccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(EPERM),
        architectures,
        syscalls,
        ..LinuxSeccomp::default()
    }
}

fn allow(names: &[&str]) -> SeccompSyscall {
    SeccompSyscall {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        action: SeccompAction::Allow,
        errno_ret: None,
        args: Vec::new(),
    }
}

fn allow_if(name: &str, arg: SeccompArg) -> SeccompSyscall {
    SeccompSyscall {
        args: vec![arg],
        ..allow(&[name])
    }
}

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::*;

    #[test]
    fn every_name_exists() {
        // Of another architecture, and another name of `arm_sync_file_range`.
        let foreign = ["riscv_hwprobe", "sync_file_range2"];
        let lists = BY_CAPABILITY.iter().map(|(_, names)| *names);
        for name in lists
            .chain([ALLOWED, ALLOWED_ON_X86, ALLOWED_ON_ARM])
            .flatten()
        {
            assert!(arch::known(name) || foreign.contains(name), "{name}");
        }
    }

    #[test]
    fn capabilities_open_blocks() {
        let names = |caps: CapSet| -> Vec<String> {
            let profile = default_profile(caps);
            profile.syscalls.into_iter().flat_map(|s| s.names).collect()
        };
        let default = names(CapSet::docker_default());
        let has = |names: &[String], name: &str| names.iter().any(|n| n == name);
        assert!(has(&default, "chroot") && !has(&default, "mount"));
        for closed in [
            "io_uring_setup",
            "keyctl",
            "add_key",
            "userfaultfd",
            "kexec_load",
        ] {
            assert!(!has(&names(CapSet::all()), closed), "{closed}");
        }
        assert!(has(&names(CapSet::all()), "mount"));
    }
}
