//! Trying the walls from the inside.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use berth_sys::process::{self, Forked};
use berth_sys::root::RootFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mknodat, openat, unlinkat};
use rustix::net::{AddressFamily, SocketType};

/// The name of what is made on the way, and removed again.
const PROBE: &str = ".berth-probe";

/// Attempts each thing that making files does not need; answers those that succeed.
pub(super) fn try_all(root: &RootFd, program: Option<OwnedFd>) -> Vec<String> {
    let attempts: [(&str, bool); 9] = [
        ("opening a socket", socket(AddressFamily::INET)),
        ("opening a local socket", socket(AddressFamily::UNIX)),
        ("forking", fork()),
        (
            "signalling",
            rustix::process::test_kill_process(rustix::process::Pid::INIT).is_ok(),
        ),
        (
            "mounting",
            berth_sys::mount::clone_handle(root, false).is_ok(),
        ),
        ("finding the host's files", found("../../../../../etc")),
        ("writing beside the root", outside(root, true)),
        ("reading beside the root", outside(root, false)),
        ("opening a device", device(root)),
    ];
    if let Some(program) = program {
        // Does not return where it works, and then nobody answers.
        let _ = process::execve_handle(program.as_fd(), &[CString::default()], &[]);
    }
    attempts
        .into_iter()
        .filter(|(_, worked)| *worked)
        .map(|(what, _)| what.to_owned())
        .collect()
}

fn socket(family: AddressFamily) -> bool {
    rustix::net::socket(family, SocketType::STREAM, None).is_ok()
}

fn fork() -> bool {
    match process::fork() {
        Ok(Forked::Child) => process::exit(0),
        other => other.is_ok(),
    }
}

fn found(path: &str) -> bool {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// Whether something can be done in the directory above the root, if there is one.
fn outside(root: &RootFd, write: bool) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(above) = openat(root, "..", flags, Mode::empty()) else {
        return false;
    };
    let same = |a: OwnedFd| match (fstat(a), fstat(root)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => true,
    };
    if above.try_clone().map_or(true, same) {
        return false;
    }
    let attempt = if write {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&above, PROBE, flags, Mode::RUSR)
    } else {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&above, ".", flags, Mode::empty())
    };
    let worked = attempt.is_ok();
    if write && worked {
        let _ = unlinkat(&above, PROBE, AtFlags::empty());
    }
    worked
}

fn device(root: &RootFd) -> bool {
    let null = rustix::fs::makedev(1, 3);
    if mknodat(root, PROBE, FileType::CharacterDevice, Mode::RUSR, null).is_err() {
        return false;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = openat(root, PROBE, flags, Mode::empty()).is_ok();
    let _ = unlinkat(root, PROBE, AtFlags::empty());
    opened
}
