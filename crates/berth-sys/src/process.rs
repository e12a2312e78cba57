//! Making, becoming and waiting for processes.
//!
//! The calls that fork refuse to do so in a process with threads: the child would have one thread
//! and the locks of all. In a single-threaded process the child may go on with ordinary code.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

pub const NEW_TIME: u64 = 0x80;
pub const NEW_MOUNT: u64 = 0x2_0000;
pub const NEW_CGROUP: u64 = 0x200_0000;
pub const NEW_UTS: u64 = 0x400_0000;
pub const NEW_IPC: u64 = 0x800_0000;
pub const NEW_USER: u64 = 0x1000_0000;
pub const NEW_PID: u64 = 0x2000_0000;
pub const NEW_NETWORK: u64 = 0x4000_0000;
const PIDFD: u64 = 0x1000;
const PARENT: u64 = 0x8000;
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where a process goes on after it was copied.
#[derive(Debug)]
pub enum Forked {
    /// In the copy.
    Child,
    /// In the process that asked; the number is that of its own PID namespace.
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// struct clone_args of linux/sched.h.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whether the calling process has one thread.
pub fn is_single_threaded() -> io::Result<bool> {
    // SAFETY: unshare(2): these flags change nothing in a process with one thread, and are refused in one with more.
    let result = unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_THREAD) };
    if result == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        e => Err(e),
    }
}

/// Copies the process with new namespaces (`NEW_*`), where given into the cgroup v2 directory
/// `cgroup`. The parent is told of its end by `SIGCHLD`.
///
/// # Errors
/// `EBUSY` in a process with threads, else clone3(2).
pub fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    clone_as(namespaces, libc::SIGCHLD as u64, cgroup)
}

/// The same, but the copy is a child of the calling process's parent, which is told of its end and
/// waits for it: a sibling that was born elsewhere.
///
/// # Errors
/// As [`clone3`]; `EINVAL` for the first process of a PID namespace.
pub fn clone_sibling(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    // The signal that tells of its end is then that of the calling process.
    clone_as(namespaces | PARENT, 0, cgroup)
}

fn clone_as(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    if !is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | PIDFD,
        pidfd: &raw mut pidfd as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: both copies go on with their own memory and stack. One thread means that
    // no lock is held by a thread the child lacks. The kernel writes one int through `pidfd`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Forked::Child),
        pid if pid > 0 => {
            let pid = Pid::from_raw(pid as i32).ok_or_else(io::Error::last_os_error)?;
            // SAFETY: the kernel made this descriptor for us (CLONE_PIDFD).
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies the process.
///
/// # Errors
/// `EBUSY` in a process with threads, else clone3(2).
pub fn fork() -> io::Result<Forked> {
    clone3(0, None)
}

/// Ends the process at once: no destructors, no flushing of what was copied from the parent.
pub fn exit(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Ends the process where it stands, should a panic unwind to here. For a process that was forked: below
/// stands the code of who forked it.
#[derive(Debug)]
pub struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            exit(101)
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Becomes the program at `path`. Returns only where that failed.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: three pointers to NUL-terminated data that outlives the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Becomes the program that `file` stands for. Returns only where that failed.
pub fn execve_handle(
    file: BorrowedFd<'_>,
    args: &[CString],
    env: &[CString],
) -> io::Result<Infallible> {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: as in `execve`; an empty path with AT_EMPTY_PATH means the descriptor.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(io::Error::last_os_error())
}

/// Marks every descriptor from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, 4)
}

/// Closes the descriptors of a range, both ends included.
///
/// Meant for a process that has just been copied and knows which few descriptors it keeps: owners
/// of the closed ones must not be used again.
pub fn close_between(first: u32, last: u32) -> io::Result<()> {
    close_range(first, last, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Moves the process into new namespaces (`NEW_*`) of its own; [`NEW_PID`] and [`NEW_TIME`] mean
/// its children.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    let flags = UnshareFlags::from_bits_retain(namespaces as u32) - UnshareFlags::FILES;
    // SAFETY: `unshare` is unsafe for CLONE_FILES alone, which is taken out.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Gives every signal its default action and blocks none, as a new program expects it.
pub fn reset_signals() {
    // SAFETY: SIG_DFL runs no code of ours; the mask is a local value. Signals whose action cannot be changed say so.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Children that end are forgotten by the kernel, without being waited for.
pub fn ignore_children() {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Writing to a closed pipe is an error and no longer the end.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Sets what `ps` shows as the command line, as far as the memory of the old one reaches, and the
/// process's short name.
pub fn set_title(name: &CStr) {
    // Names are for people: a failure is not worth one.
    let _ = rustix::thread::set_name(name);
}

/// Sets the execution domain of the calling process (personality(2)).
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    if unsafe { libc::personality(libc::c_ulong::from(persona)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives the process an empty session keyring of its own (keyrings(7)). Where the kernel has no
/// keyrings, there is nothing to be kept from.
pub fn new_session_keyring() -> io::Result<()> {
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: without a name the kernel reads no memory.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, 1_u32, name) };
    match io::Error::last_os_error() {
        e if result < 0 && e.raw_os_error() != Some(libc::ENOSYS) => Err(e),
        _ => Ok(()),
    }
}

/// Sends a signal, named or real-time, to the process that a pidfd stands for.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: no memory is involved: without an info the kernel makes its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            none,
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes a descriptor that this process was started with.
///
/// # Errors
/// `EBADF` where there is none, `EINVAL` for standard input, output and error.
pub fn take_inherited_fd(fd: i32) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: fcntl looks the number up and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and by the caller's word nothing else in the program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_forbid_forking() {
        // The test runner has threads.
        assert!(!is_single_threaded().unwrap());
        let error = fork().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }

    #[test]
    fn inherited_descriptors_are_checked() {
        assert!(take_inherited_fd(1).is_err());
        assert!(take_inherited_fd(1 << 20).is_err());
    }

    #[test]
    fn a_missing_program_says_so() {
        let error = execve(c"/missing/program", &[], &[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
