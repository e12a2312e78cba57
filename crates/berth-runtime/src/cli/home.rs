//! The cgroup that a container is to live in: made by us, or by systemd.

use std::os::fd::{AsFd, OwnedFd};

use berth_spec::oci::runtime::Spec;
use berth_sys::process::{self as sys, Forked};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Global;
use crate::cgroup::{Cgroup, CgroupPath, Cgroups, Layout};
use crate::error::{Context, Error, Result};
use crate::systemd::{self, Scope};

/// A cgroup with its limits, and what keeps it until something is in it.
#[derive(Debug)]
pub(super) struct Home {
    pub cgroup: Cgroup,
    /// systemd's name for it.
    pub unit: Option<String>,
    _keeper: Option<Keeper>,
}

impl Home {
    pub fn make(global: &Global, cgroups: &Cgroups, spec: &Spec, id: &str) -> Result<Self> {
        let linux = spec.linux.as_ref();
        let asked = linux.map_or("", |linux| &linux.cgroups_path);
        let resources = linux.and_then(|linux| linux.resources.clone());
        let resources = resources.unwrap_or_default();
        let failed = |e: crate::cgroup::Error| Error::internal(format!("cgroup: {e}"));
        if !global.systemd {
            let path = CgroupPath::from_bundle(asked, id).map_err(failed)?;
            let cgroup = cgroups.create(path.as_str(), &resources).map_err(failed)?;
            return Ok(Self {
                cgroup,
                unit: None,
                _keeper: None,
            });
        }
        if !systemd::is_there() {
            let text = "systemd not running on this host, cannot use systemd cgroups manager";
            return Err(Error::invalid(text));
        }
        let scope = Scope::of(asked, id)?;
        let path = CgroupPath::from_bundle(&scope.cgroups_path(), id).map_err(failed)?;
        let keeper = Keeper::start()?;
        scope.start(spec, id, keeper.pid, cgroups.layout() == Layout::V2)?;
        match cgroups.adopt(path.as_str(), &resources) {
            Ok(cgroup) => Ok(Self {
                cgroup,
                unit: Some(scope.unit),
                _keeper: Some(keeper),
            }),
            Err(error) => {
                drop(keeper);
                // What is told is why it failed.
                let _ = systemd::stop(&scope.unit);
                let _ = cgroups.open(path.as_str()).and_then(|left| left.remove());
                Err(failed(error))
            }
        }
    }

    /// Nothing came to live in it.
    pub fn undo(mut self) {
        self._keeper = None;
        // Whoever undoes it tells why.
        let _ = leave(&self.cgroup, self.unit.as_deref());
    }
}

/// Ends what is left in a cgroup and removes it.
pub(super) fn leave(cgroup: &Cgroup, unit: Option<&str>) -> Result<()> {
    let failed = |e: crate::cgroup::Error| Error::internal(e.to_string());
    if let Some(unit) = unit {
        // systemd would ask them to end, and wait. It removes what is empty, at any moment.
        match cgroup.kill_all() {
            Err(e) if e.is_gone() => {}
            killed => killed.map_err(failed)?,
        }
        systemd::stop(unit)?;
    }
    cgroup.remove().map_err(failed)
}

/// A process that does nothing: systemd makes no scope without one. It ends when this is dropped.
#[derive(Debug)]
struct Keeper {
    pid: u32,
    pidfd: OwnedFd,
    end: Option<OwnedFd>,
}

impl Keeper {
    fn start() -> Result<Self> {
        let what = || "a process for systemd".to_owned();
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(what)?;
        match sys::fork().context(what)? {
            Forked::Child => {
                drop(write);
                // Until the other end is closed, whoever does that.
                while matches!(
                    rustix::io::read(&read, &mut [0; 1]),
                    Err(rustix::io::Errno::INTR)
                ) {}
                sys::exit(0)
            }
            Forked::Parent { pid, pidfd } => Ok(Self {
                pid: pid.as_raw_pid().unsigned_abs(),
                pidfd,
                end: Some(write),
            }),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end = None;
        // It has nothing else to do than to end.
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}
