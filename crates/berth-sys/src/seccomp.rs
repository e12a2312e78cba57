//! seccomp(2): putting a filter on the calling thread.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

const SET_MODE_FILTER: libc::c_ulong = 1;
const GET_ACTION_AVAIL: libc::c_ulong = 2;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the call returns a notification descriptor.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;

/// One instruction of classic BPF, as in linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    pub k: u32,
}

/// Filters the calling thread, and what it makes, from now on. Returns the notification descriptor
/// when `flags` ask for one.
///
/// The thread needs `no_new_privs` or `CAP_SYS_ADMIN` (else `EACCES`). Nothing is allocated, so a
/// forked child may call this.
pub fn set_filter(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let filter = libc::sock_fprog {
        len,
        // The kernel only reads it; `Instruction` is laid out as `sock_filter`.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `filter` points to `len` instructions that live across the call; the kernel copies
    // and checks them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            &raw const filter,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        if result > 0 {
            // With TSYNC: the thread that could not be brought along.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        return Ok(None);
    }
    // SAFETY: with the flag, the result is a new descriptor (close-on-exec) that is ours alone.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) }))
}

/// Whether the kernel knows the return value of this action (`SECCOMP_RET_…`, without data).
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32 through the pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            GET_ACTION_AVAIL,
            0 as libc::c_ulong,
            &raw const action,
        )
    };
    result == 0
}
