//! A seccomp program for a process that works on files it has been given, and does nothing else.

use std::io;

use crate::seccomp::{self, Instruction};

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const FAIL: u32 = 0x0005_0000;

/// Offsets in struct seccomp_data of linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const THIRD_ARGUMENT: u32 = 32;

#[cfg(target_arch = "x86_64")]
const OUR_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OUR_ARCHITECTURE: u32 = 0xc000_00b7;

/// Numbers of other call tables of the same architecture (x32) begin here.
const OTHER_TABLES: u32 = 0x4000_0000;

/// Finding, reading, making and removing files by descriptor; memory; ending.
const FILES: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_getxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_flistxattr,
    libc::SYS_setxattr,
    libc::SYS_fsetxattr,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Allowed as long as nothing becomes executable.
const MAPPING: &[libc::c_long] = &[libc::SYS_mmap, libc::SYS_mprotect];

/// From now on the calling thread can work on files and end; any other call is refused with
/// `EPERM`, one of a foreign call table ends the process. `no_new_privs` must be set.
pub fn restrict() -> io::Result<()> {
    seccomp::set_filter(&program(), 0).map(drop)
}

fn program() -> Vec<Instruction> {
    let step = |code, k| Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        k,
    };
    let jump = |code, k, jump_true: usize, jump_false| Instruction {
        code,
        jump_true: jump_true as u8,
        jump_false,
        k,
    };
    let calls = FILES.len() + MAPPING.len();
    let mut program = vec![
        step(LOAD, ARCHITECTURE),
        jump(JUMP_EQUAL, OUR_ARCHITECTURE, 1, 0),
        step(RETURN, KILL_PROCESS),
        step(LOAD, NUMBER),
        jump(JUMP_GREATER_EQUAL, OTHER_TABLES, 0, 1),
        step(RETURN, KILL_PROCESS),
    ];
    // What follows the calls: refusal, the look at a mapping (two instructions), refusal, consent.
    for (at, call) in FILES.iter().enumerate() {
        program.push(jump(JUMP_EQUAL, *call as u32, calls - at - 1 + 4, 0));
    }
    for (at, call) in MAPPING.iter().enumerate() {
        program.push(jump(
            JUMP_EQUAL,
            *call as u32,
            MAPPING.len() - at - 1 + 1,
            0,
        ));
    }
    let refusal = step(RETURN, FAIL | libc::EPERM as u32);
    program.extend([
        refusal,
        step(LOAD, THIRD_ARGUMENT),
        jump(JUMP_SET, libc::PROT_EXEC as u32, 0, 1),
        refusal,
        step(RETURN, ALLOW),
    ]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says of a call.
    fn verdict(architecture: u32, number: u32, third: u32) -> u32 {
        let program = program();
        let (mut at, mut held) = (0, 0);
        loop {
            let i = program[at];
            at += 1;
            let holds = match i.code {
                LOAD => {
                    held = match i.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        _ => third,
                    };
                    continue;
                }
                RETURN => return i.k,
                JUMP_EQUAL => held == i.k,
                JUMP_GREATER_EQUAL => held >= i.k,
                _ => held & i.k != 0,
            };
            at += usize::from(if holds { i.jump_true } else { i.jump_false });
        }
    }

    #[test]
    fn files_yes_everything_else_no() {
        let ours = |call: libc::c_long, third| verdict(OUR_ARCHITECTURE, call as u32, third);
        for call in FILES {
            assert_eq!(ours(*call, 0), ALLOW, "{call}");
        }
        for call in MAPPING {
            assert_eq!(ours(*call, 3), ALLOW);
            assert_eq!(ours(*call, 7), FAIL | 1);
        }
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_chroot,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_tgkill,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_ioctl,
            libc::SYS_prctl,
            libc::SYS_name_to_handle_at,
            libc::SYS_open_by_handle_at,
        ] {
            assert_eq!(ours(call, 0), FAIL | 1, "{call}");
        }
        let read = libc::SYS_read as u32;
        assert_eq!(verdict(0x4000_0003, read, 0), KILL_PROCESS);
        assert_eq!(
            verdict(OUR_ARCHITECTURE, read | OTHER_TABLES, 0),
            KILL_PROCESS
        );
    }
}
