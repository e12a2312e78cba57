//! System call tables: which name has which number under which convention.

use berth_spec::oci::runtime::SeccompArch;
use syscalls::{aarch64, arm, x86, x86_64};

/// The bit that marks a call of the x32 convention (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// A convention that a filter can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Arch {
    X86_64,
    /// Shares its audit number with x86_64; told by a bit in the call's number.
    X32,
    X86,
    Aarch64,
    Arm,
}

impl Arch {
    /// What this program was built for.
    pub(super) const NATIVE: Arch = if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };

    /// The convention a profile names; `None` for one of another family.
    pub(super) fn of(named: SeccompArch) -> Option<Arch> {
        match named {
            SeccompArch::Native => Some(Arch::NATIVE),
            SeccompArch::X86_64 => Some(Arch::X86_64),
            SeccompArch::X32 => Some(Arch::X32),
            SeccompArch::X86 => Some(Arch::X86),
            SeccompArch::Aarch64 => Some(Arch::Aarch64),
            SeccompArch::Arm => Some(Arch::Arm),
            _ => None,
        }
    }

    /// `seccomp_data.arch`, linux/audit.h.
    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Calls `each` with the name and the number of every system call.
    pub(super) fn for_each(self, mut each: impl FnMut(&'static str, u32)) {
        match self {
            Arch::X86_64 => {
                x86_64::Sysno::iter().for_each(|s| each(s.name(), s.id().cast_unsigned()));
            }
            Arch::X32 => {
                let own = |name| X32_OWN.iter().any(|(own, _)| *own == name);
                for call in x86_64::Sysno::iter().filter(|s| !own(s.name())) {
                    each(call.name(), call.id().cast_unsigned() | X32_BIT);
                }
                X32_OWN.iter().for_each(|(name, n)| each(name, n | X32_BIT));
            }
            Arch::X86 => x86::Sysno::iter().for_each(|s| each(s.name(), s.id().cast_unsigned())),
            Arch::Aarch64 => {
                for call in aarch64::Sysno::iter() {
                    // Profiles know it by the name of other machines, as libseccomp does.
                    let name = match call.name() {
                        "fstatat" => "newfstatat",
                        name => name,
                    };
                    each(name, call.id().cast_unsigned());
                }
            }
            Arch::Arm => {
                arm::Sysno::iter().for_each(|s| each(s.name(), s.id().cast_unsigned()));
                ARM_PRIVATE.iter().for_each(|(name, n)| each(name, *n));
            }
        }
    }
}

/// Calls that have numbers of their own under x32 (arch/x86/entry/syscalls/syscall_64.tbl).
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// Calls that only 32-bit ARM has (arch/arm/include/uapi/asm/unistd.h).
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0x0f_0001),
    ("cacheflush", 0x0f_0002),
    ("usr26", 0x0f_0003),
    ("usr32", 0x0f_0004),
    ("set_tls", 0x0f_0005),
    ("get_tls", 0x0f_0006),
];

/// On x86, calls that can also be reached through a collecting one, by its first argument
/// (linux/net.h and linux/ipc.h).
pub(super) fn x86_collected(name: &str) -> Option<(&'static str, u32)> {
    const SOCKET: [(&str, u32); 20] = [
        ("socket", 1),
        ("bind", 2),
        ("connect", 3),
        ("listen", 4),
        ("accept", 5),
        ("getsockname", 6),
        ("getpeername", 7),
        ("socketpair", 8),
        ("send", 9),
        ("recv", 10),
        ("sendto", 11),
        ("recvfrom", 12),
        ("shutdown", 13),
        ("setsockopt", 14),
        ("getsockopt", 15),
        ("sendmsg", 16),
        ("recvmsg", 17),
        ("accept4", 18),
        ("recvmmsg", 19),
        ("sendmmsg", 20),
    ];
    const IPC: [(&str, u32); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let find = |table: &[(&str, u32)]| table.iter().find(|(n, _)| *n == name).map(|(_, n)| *n);
    find(&SOCKET)
        .map(|n| ("socketcall", n))
        .or_else(|| find(&IPC).map(|n| ("ipc", n)))
}

/// Whether any convention has a call of this name.
#[cfg(test)]
pub(super) fn known(name: &str) -> bool {
    let mut found = false;
    for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm] {
        arch.for_each(|n, _| found |= n == name);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(arch: Arch, name: &str) -> Option<u32> {
        let mut found = None;
        arch.for_each(|n, nr| {
            if n == name {
                found = Some(nr);
            }
        });
        found
    }

    #[test]
    fn well_known_numbers() {
        assert_eq!(number(Arch::X86_64, "openat2"), Some(437));
        assert_eq!(number(Arch::X86, "socketcall"), Some(102));
        assert_eq!(number(Arch::X86, "clone"), Some(120));
        assert_eq!(number(Arch::Aarch64, "newfstatat"), Some(79));
        assert_eq!(number(Arch::Arm, "set_tls"), Some(0x0f_0005));
        assert_eq!(number(Arch::X32, "execve"), Some(X32_BIT | 520));
        assert_eq!(number(Arch::X32, "read"), Some(X32_BIT));
        assert!(known("mseal") && !known("launch_rocket"));
    }
}
