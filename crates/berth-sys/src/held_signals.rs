//! Signals that are held back and taken one by one, without a descriptor.
#![allow(unsafe_code)]

use std::io;

use rustix::process::Pid;

/// What a process does to itself; held back, they would end it all the same.
const FAULTS: [i32; 7] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// The end of a child.
pub const CHILD: i32 = libc::SIGCHLD;

/// All signals that can be held back, held back in the calling thread.
pub struct HeldSignals(libc::sigset_t);

impl HeldSignals {
    /// Holds them back, and ignores what a terminal sends to who uses it from the background.
    pub fn hold() -> io::Result<Self> {
        // SAFETY: the set is a local value that the calls fill and read; SIG_IGN runs no code of ours,
        // `seen` does nothing.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            for signal in FAULTS.into_iter().chain([libc::SIGTTIN, libc::SIGTTOU]) {
                libc::sigdelset(&raw mut set, signal);
            }
            // Others see in /proc/<pid>/status that the signal has a handler, and so arrives: while it is waited for, the
            // kernel does not show it as held back. Some numbers are the C library's own, which then says no.
            for signal in (1..=64).filter(|signal| libc::sigismember(&raw const set, *signal) == 1)
            {
                libc::signal(signal, seen as *const () as libc::sighandler_t);
            }
            libc::signal(libc::SIGTTIN, libc::SIG_IGN);
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(set))
        }
    }

    /// Waits for the next one. Equal signals may have become one.
    pub fn next(&self) -> i32 {
        loop {
            // SAFETY: the set is initialised; no information is asked for.
            let signal = unsafe { libc::sigwaitinfo(&raw const self.0, std::ptr::null_mut()) };
            if signal > 0 {
                return signal;
            }
        }
    }
}

/// Runs for no signal: each is taken before it is delivered.
extern "C" fn seen(_: libc::c_int) {}

/// Whether a process sits in sigtimedwait(2), as an init does that takes signals one by one. The
/// kernel shows neither a handler for them nor that they are held back.
pub fn are_awaited_by(pid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split_ascii_whitespace().next();
    number.and_then(|n| n.parse().ok()) == Some(libc::SYS_rt_sigtimedwait)
}

/// Sends a signal, named or real-time, to a process by its number: one that the caller has not
/// waited for yet, so that the number is still its own.
pub fn send_to_child(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::kill(pid.as_raw_pid(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_signals_is_known() {
        assert!(!are_awaited_by(std::process::id() as i32));
        assert!(!are_awaited_by(0));
    }
}
