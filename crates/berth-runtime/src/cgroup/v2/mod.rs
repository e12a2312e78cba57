//! cgroup v2: one tree. Beside v1 (hybrid) it has few or no controllers, but kills and freezes.

mod settings;
mod stats;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_spec::oci::runtime::{DeviceRule, LinuxResources};
use berth_sys::bpf;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::dir::Dir;
use super::path::CgroupPath;
use super::stats::keyed;
use super::{Error, Found, Result, device, device_program, setting};

/// How long processes may take to freeze.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub root: Dir,
    /// What its root has to give.
    pub controllers: Vec<String>,
}

impl Tree {
    pub(super) fn new(root: Dir) -> Result<Tree> {
        let controllers = words(&root.read("cgroup.controllers")?);
        Ok(Tree { root, controllers })
    }

    /// Makes the cgroup, with these controllers as far as there are.
    pub(super) fn create(
        self: &Arc<Self>,
        path: &CgroupPath,
        controllers: &[String],
        found: Found,
    ) -> Result<Group> {
        let dir = super::make(&self.root, path, found, |_| Ok(()))?;
        let group = Group {
            tree: Arc::clone(self),
            path: path.clone(),
            dir,
        };
        if let Err(error) = self.enable(&group, controllers) {
            if found == Found::Refused {
                // The first failure is what is told.
                let _ = group.remove();
            }
            return Err(error);
        }
        Ok(group)
    }

    pub(super) fn open(self: &Arc<Self>, path: &CgroupPath) -> Result<Option<Group>> {
        Ok(self.root.open_dir(path.as_str())?.map(|dir| Group {
            tree: Arc::clone(self),
            path: path.clone(),
            dir,
        }))
    }

    /// Hands controllers down to the cgroup, one level after the other. A level that has processes
    /// of its own refuses; its limits are then told as missing where they are asked for.
    fn enable(&self, group: &Group, wanted: &[String]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let have = words(&group.dir.read("cgroup.controllers")?);
        if wanted.iter().all(|c| have.contains(c)) {
            return Ok(());
        }
        enable_in(&self.root, wanted)?;
        for parent in group.path.parents() {
            if let Some(dir) = self.root.open_dir(parent)? {
                enable_in(&dir, wanted)?;
            }
        }
        Ok(())
    }
}

fn enable_in(dir: &Dir, wanted: &[String]) -> Result<()> {
    let have = words(&dir.read("cgroup.controllers")?);
    let on = words(&dir.read("cgroup.subtree_control")?);
    let missing: Vec<String> = wanted
        .iter()
        .filter(|c| have.contains(c) && !on.contains(c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty()
        || dir
            .write_raw("cgroup.subtree_control", &missing.join(" "))
            .is_ok()
    {
        return Ok(());
    }
    // One that cannot be had must not cost the others.
    for one in missing {
        let _ = dir.write_raw("cgroup.subtree_control", &one);
    }
    Ok(())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A cgroup of the tree.
#[derive(Debug)]
pub(super) struct Group {
    tree: Arc<Tree>,
    path: CgroupPath,
    dir: Dir,
}

impl Group {
    pub(super) fn directory(&self) -> &Dir {
        &self.dir
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Writes what is asked for.
    pub(super) fn apply(
        &self,
        resources: &LinuxResources,
        fresh: bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        if let Some(memory) = resources.memory.filter(|_| !fresh) {
            self.check_usage(&memory)?;
        }
        let settings = settings::all(resources, |file| self.dir.has(file), warnings)?;
        settings
            .iter()
            .try_for_each(|setting| setting::put(&self.dir, setting, warnings))
    }

    /// A limit below what is used would kill at once; whoever asks can have it refused instead.
    fn check_usage(&self, memory: &berth_spec::oci::runtime::Memory) -> Result<()> {
        let limit = memory.limit.and_then(|n| u64::try_from(n).ok());
        let (Some(true), Some(limit)) = (memory.check_before_update, limit) else {
            return Ok(());
        };
        match self.dir.number("memory.current") {
            Some(usage) if limit > 0 && limit < usage => Err(Error::Invalid(format!(
                "unable to set memory limit to {limit} (current usage: {usage})"
            ))),
            _ => Ok(()),
        }
    }

    /// Puts the device rules in place of those that were there, with what is allowed in any case
    /// behind them. There is no moment without a filter.
    pub(super) fn restrict_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        let error = |source| Error::Devices {
            path: self.path.to_string(),
            source,
        };
        let program = device_program::compile(&device::with_implied(rules)?);
        let program = bpf::load_device_program(&program).map_err(error)?;
        let before = bpf::device_programs(self.dir.as_fd()).map_err(error)?;
        let replaces = match &before[..] {
            [one] => Some(one.as_fd()),
            _ => None,
        };
        bpf::attach_device_program(self.dir.as_fd(), program.as_fd(), replaces).map_err(error)?;
        if replaces.is_none() {
            for old in &before {
                bpf::detach_device_program(self.dir.as_fd(), old.as_fd()).map_err(error)?;
            }
        }
        Ok(())
    }

    pub(super) fn procs_file(&self) -> Result<OwnedFd> {
        self.dir.open_write("cgroup.procs")
    }

    pub(super) fn add(&self, pid: i32) -> Result<()> {
        self.dir.write("cgroup.procs", &pid.to_string())
    }

    pub(super) fn pids(&self) -> Result<Vec<i32>> {
        self.dir.pids()
    }

    /// Kills every process in it and below, at once; false where the kernel cannot (before 5.14).
    pub(super) fn kill(&self) -> Result<bool> {
        match self.dir.write_raw("cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::File {
                verb: "kill",
                file: self.dir.name().to_owned(),
                source,
            }),
        }
    }

    /// Freezes all processes; on a failure they run again.
    pub(super) fn freeze(&self) -> Result<()> {
        self.dir.write("cgroup.freeze", "1")?;
        if self.wait_event("frozen", 1, FREEZE_DEADLINE)? {
            return Ok(());
        }
        self.thaw()?;
        Err(Error::Timeout {
            path: self.path.to_string(),
            verb: "freeze",
        })
    }

    pub(super) fn thaw(&self) -> Result<()> {
        self.dir.write("cgroup.freeze", "0")
    }

    pub(super) fn frozen(&self) -> bool {
        self.dir.keyed("cgroup.events", "frozen") == Some(1)
    }

    /// Waits until the last process is gone; false when the deadline passed first.
    pub(super) fn wait_empty(&self, deadline: Duration) -> Result<bool> {
        self.wait_event("populated", 0, deadline)
    }

    /// Waits for a value of `cgroup.events`; the kernel wakes the poll at each change.
    fn wait_event(&self, key: &str, value: u64, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        let file = self.dir.open_read("cgroup.events")?;
        let mut buffer = [0; 256];
        loop {
            let failed = |e: Errno| Error::File {
                verb: "watch",
                file: format!("{}/cgroup.events", self.dir.name()),
                source: e.into(),
            };
            let n = rustix::io::pread(&file, &mut buffer, 0).map_err(failed)?;
            if keyed(&String::from_utf8_lossy(&buffer[..n]), key) == Some(value) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }

    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.dir.keyed("memory.events", "oom_kill")
    }

    /// Readable whenever `memory.events` has changed.
    pub(super) fn oom_event(&self) -> Result<Option<OwnedFd>> {
        if !self.dir.has("memory.events") {
            return Ok(None);
        }
        let file = format!("{}/memory.events", self.dir.name());
        let watch = || {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&fd, file.as_str(), inotify::WatchFlags::MODIFY)?;
            Ok(fd)
        };
        let watched: rustix::io::Result<OwnedFd> = watch();
        watched.map(Some).map_err(|e| Error::File {
            verb: "watch",
            file,
            source: e.into(),
        })
    }

    pub(super) fn stats(&self) -> super::Stats {
        stats::read(&self.dir)
    }

    pub(super) fn cpu_stats(&self) -> super::CpuStats {
        stats::read_cpu(&self.dir)
    }

    pub(super) fn remove(&self) -> Result<()> {
        self.tree.root.remove_tree(self.path.as_str())
    }
}
