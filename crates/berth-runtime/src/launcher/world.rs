//! What every container's start needs and is made once.

use std::os::fd::OwnedFd;

use berth_sys::{empty_root, mount};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Cgroups;
use crate::error::{Context, Result};

/// Descriptors that starts use.
#[derive(Debug)]
pub(crate) struct World {
    /// procfs of our own PID namespace, mounted nowhere: nothing can be mounted over it, and it was
    /// opened before any container's tree was seen. What is written below `/proc` goes through it.
    pub procfs: OwnedFd,
    /// A mount namespace with one empty read-only directory. Containers start from a copy of it:
    /// there is nothing to copy, and nothing of the host to be taken away again, which costs an RCU
    /// grace period.
    pub empty: OwnedFd,
    /// The mount namespace we live in.
    pub home: OwnedFd,
    /// The PID namespace we live in.
    pub pids: OwnedFd,
    pub cgroups: Cgroups,
}

impl World {
    /// Makes it. The calling process passes through the empty mount namespace and comes back.
    pub fn new(cgroups: Cgroups) -> Result<Self> {
        let nosuid = mount::NOSUID | mount::NODEV | mount::NOEXEC;
        let procfs =
            mount::new_mount("proc", &[], nosuid).context(|| "mounting a procfs".to_owned())?;
        let home = namespace("mnt")?;
        let pids = namespace("pid")?;
        let made = empty();
        // Whatever happened: back to where we were.
        move_into_link_name_space(as_fd(&home), Some(LinkNameSpaceType::Mount))
            .context(|| "returning to the mount namespace".to_owned())?;
        Ok(Self {
            procfs,
            empty: made?,
            home,
            pids,
            cgroups,
        })
    }
}

fn as_fd(fd: &OwnedFd) -> std::os::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

fn namespace(name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/self/ns/{name}");
    openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| path)
}

fn empty() -> Result<OwnedFd> {
    let what = || "making the empty mount namespace".to_owned();
    empty_root::enter().context(what)?;
    // /proc is gone from here; the namespace is reached through a procfs of our own.
    let attributes = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let procfs = mount::new_mount("proc", &[], attributes).context(what)?;
    openat(
        &procfs,
        "self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(what)
}
