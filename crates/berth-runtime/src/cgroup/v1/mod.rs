//! cgroup v1: one tree for each controller, or for several joined ones.

mod settings;
mod stats;
mod view;

pub(super) use settings::{pids_max, rdma};

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_spec::oci::runtime::{DeviceRule, LinuxResources};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::device::{Policy, Rule};
use super::dir::Dir;
use super::path::CgroupPath;
use super::setting::{self, Setting};
use super::{Error, Found, Result, device};

/// How long processes may take to freeze.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// One mounted tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// Controllers, or `name=…`.
    pub controllers: Vec<String>,
    pub root: Dir,
}

impl Tree {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// All mounted trees.
#[derive(Debug)]
pub(super) struct Trees(pub Vec<Tree>);

impl Trees {
    pub(super) fn tree(&self, controller: &str) -> Option<&Tree> {
        self.0.iter().find(|t| t.has(controller))
    }

    /// Makes the cgroup in every tree, or in none.
    pub(super) fn create(self: &Arc<Self>, path: &CgroupPath, found: Found) -> Result<Group> {
        let mut group = Group {
            trees: Arc::clone(self),
            path: path.clone(),
            dirs: Vec::with_capacity(self.0.len()),
        };
        for tree in &self.0 {
            let made = super::make(&tree.root, path, found, |parent| {
                if tree.has("cpuset") {
                    inherit_cpuset(&tree.root, parent)?;
                    // Cgroups to come need no filling in.
                    if let Some(dir) = tree.root.open_dir(parent)? {
                        dir.write("cgroup.clone_children", "1")?;
                    }
                }
                Ok(())
            });
            let result = made.and_then(|dir| {
                group.dirs.push(Some(dir));
                if tree.has("cpuset") {
                    inherit_cpuset(&tree.root, path.as_str())?;
                }
                Ok(())
            });
            if let Err(error) = result {
                if found == Found::Refused {
                    // The first failure is what is told; nothing has joined these cgroups yet.
                    let _ = group.remove();
                }
                return Err(error);
            }
        }
        Ok(group)
    }

    /// The cgroup where it stands; `None` if no tree has it.
    pub(super) fn open(self: &Arc<Self>, path: &CgroupPath) -> Result<Option<Group>> {
        let mut dirs = Vec::with_capacity(self.0.len());
        for tree in &self.0 {
            dirs.push(tree.root.open_dir(path.as_str())?);
        }
        Ok(dirs.iter().any(Option::is_some).then(|| Group {
            trees: Arc::clone(self),
            path: path.clone(),
            dirs,
        }))
    }
}

/// Gives a cpuset cgroup its parent's CPUs and memory nodes where it has none yet: without them no
/// process can join.
fn inherit_cpuset(root: &Dir, path: &str) -> Result<()> {
    const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
    let empty = |dir: &Dir, file| -> Result<bool> { Ok(dir.read(file)?.trim().is_empty()) };
    let Some(leaf) = root.open_dir(path)? else {
        return Ok(());
    };
    if !empty(&leaf, FILES[0])? && !empty(&leaf, FILES[1])? {
        return Ok(());
    }
    for file in FILES {
        let mut value = root.read(file)?;
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let Some(dir) = root.open_dir(&path[..end])? else {
                return Ok(());
            };
            let own = dir.read(file)?;
            if own.trim().is_empty() {
                dir.write(file, value.trim())?;
            } else {
                value = own;
            }
        }
    }
    Ok(())
}

/// A cgroup in all trees.
#[derive(Debug)]
pub(super) struct Group {
    trees: Arc<Trees>,
    path: CgroupPath,
    /// By tree; `None` where it does not stand.
    dirs: Vec<Option<Dir>>,
}

impl Group {
    fn dir(&self, controller: &str) -> Option<&Dir> {
        let at = self.trees.0.iter().position(|t| t.has(controller))?;
        self.dirs[at].as_ref()
    }

    fn each(&self) -> impl Iterator<Item = &Dir> {
        self.dirs.iter().flatten()
    }

    /// The tree that is asked who is in the cgroup.
    fn census(&self) -> Option<&Dir> {
        ["pids", "memory", "freezer"]
            .iter()
            .find_map(|c| self.dir(c))
            .or_else(|| self.each().next())
    }

    /// Writes what differs from a new cgroup's values (`fresh`) or what is asked for.
    pub(super) fn apply(
        &self,
        resources: &LinuxResources,
        fresh: bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        if !resources.unified.is_empty() {
            return Err(Error::Invalid(
                "invalid configuration: unified resources were asked for, but this machine has cgroup v1".to_owned(),
            ));
        }
        let has = |controller: &'static str, file: &str| {
            self.dir(controller).is_some_and(|d| d.has(file))
        };
        for wanted in settings::plain(resources, has) {
            match self.dir(wanted.controller) {
                Some(dir) => put_all(dir, &wanted.settings, warnings)?,
                None => warnings.push(setting::discarded(wanted.what)),
            }
        }
        if let Some(memory) = &resources.memory {
            self.apply_memory(memory, fresh, warnings)?;
        }
        Ok(())
    }

    fn apply_memory(
        &self,
        memory: &berth_spec::oci::runtime::Memory,
        fresh: bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let mut memory = *memory;
        if fresh && memory.disable_oom_killer == Some(false) {
            memory.disable_oom_killer = None;
        }
        let dir = self.dir("memory");
        let now = match dir {
            Some(dir) if !fresh => stats::limit(dir, "memory.memsw.limit_in_bytes"),
            _ => None,
        };
        let settings = settings::memory(&memory, now);
        match dir {
            Some(dir) => put_all(dir, &settings, warnings),
            None => {
                if !settings.is_empty() {
                    warnings.push(setting::discarded("memory limit capabilities"));
                }
                Ok(())
            }
        }
    }

    /// Whether device rules can be put in place here.
    pub(super) fn has_devices(&self) -> bool {
        self.dir("devices").is_some()
    }

    /// Puts the device rules in place, with what is allowed in any case behind them.
    pub(super) fn restrict_devices(
        &self,
        rules: &[DeviceRule],
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let rules: Vec<Rule> = device::with_implied(rules)?;
        let policy = Policy::from_rules(&rules)?;
        let Some(dir) = self.dir("devices") else {
            return Ok(());
        };
        let current = Policy::parse(&dir.read("devices.list")?);
        for (file, line) in policy.writes_from(&current) {
            match dir.write_raw(file, &line) {
                Ok(()) => {}
                Err(e) if policy.allow_by_default && is(&e, Errno::PERM) => {
                    // The parent has less to give; staying as closed as it is does no harm.
                    warnings.push(format!("cannot allow all devices to {}: {e}", dir.name()));
                    return Ok(());
                }
                Err(source) => {
                    return Err(Error::Devices {
                        path: format!("{}/{file} ({line})", dir.name()),
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// The `cgroup.procs` of every tree, open for writing.
    pub(super) fn procs_files(&self) -> Result<Vec<OwnedFd>> {
        self.each().map(|d| d.open_write("cgroup.procs")).collect()
    }

    /// Whether there is a tree of that controller.
    pub(super) fn has_tree(&self, controller: &str) -> bool {
        self.trees.tree(controller).is_some()
    }

    /// The `cgroup.procs` of every tree, below the cgroup where `path` says so for its controllers.
    pub(super) fn procs_files_below<'a>(
        &self,
        path: impl Fn(&[String]) -> &'a str,
    ) -> Result<Vec<OwnedFd>> {
        let trees = self.trees.0.iter().zip(&self.dirs);
        let standing = trees.filter_map(|(tree, dir)| Some((tree, dir.as_ref()?)));
        standing
            .map(|(tree, dir)| match path(&tree.controllers) {
                "" => dir.open_write("cgroup.procs"),
                path => super::below::enter(dir, path)?.open_write("cgroup.procs"),
            })
            .collect()
    }

    pub(super) fn add(&self, pid: i32) -> Result<()> {
        self.each()
            .try_for_each(|d| d.write("cgroup.procs", &pid.to_string()))
    }

    pub(super) fn pids(&self) -> Result<Vec<i32>> {
        self.census().map_or(Ok(Vec::new()), Dir::pids)
    }

    /// Freezes all processes; on a failure they run again.
    pub(super) fn freeze(&self) -> Result<()> {
        let Some(dir) = self.dir("freezer") else {
            return Err(Error::Invalid(
                "the freezer controller is not mounted".to_owned(),
            ));
        };
        let deadline = Instant::now() + FREEZE_DEADLINE;
        let mut pause = Duration::from_micros(50);
        while Instant::now() < deadline {
            dir.write("freezer.state", "FROZEN")?;
            // FREEZING lasts until each process has come to a stop.
            if dir.read("freezer.state")?.trim() == "FROZEN" {
                return Ok(());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.thaw()?;
        Err(Error::Timeout {
            path: self.path.to_string(),
            verb: "freeze",
        })
    }

    pub(super) fn thaw(&self) -> Result<()> {
        match self.dir("freezer") {
            Some(dir) => dir.write("freezer.state", "THAWED"),
            None => Ok(()),
        }
    }

    pub(super) fn frozen(&self) -> Option<bool> {
        let text = self.dir("freezer")?.read_if_there("freezer.state")?;
        Some(text.trim() == "FROZEN")
    }

    pub(super) fn has_freezer(&self) -> bool {
        self.dir("freezer").is_some()
    }

    pub(super) fn freezer(&self) -> Option<String> {
        Some(self.dir("freezer")?.name().to_owned())
    }

    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.dir("memory")?.keyed("memory.oom_control", "oom_kill")
    }

    /// An event counter that the kernel raises when the limit is hit and nothing can be reclaimed,
    /// and once more when the cgroup goes away.
    pub(super) fn oom_event(&self) -> Result<Option<OwnedFd>> {
        let Some(dir) = self.dir("memory") else {
            return Ok(None);
        };
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| {
            Error::File {
                verb: "watch",
                file: format!("{}/memory.oom_control", dir.name()),
                source: e.into(),
            }
        })?;
        let control = dir.open_read("memory.oom_control")?;
        let line = format!(
            "{} {}",
            event.as_fd().as_raw_fd(),
            control.as_fd().as_raw_fd()
        );
        dir.write("cgroup.event_control", &line)?;
        Ok(Some(event))
    }

    pub(super) fn stats(&self) -> super::Stats {
        stats::read(|controller| self.dir(controller))
    }

    pub(super) fn cpu_stats(&self) -> super::CpuStats {
        stats::cpu(self.dir("cpuacct"), self.dir("cpu"))
    }

    /// Removes the cgroup from every tree; goes on past a failure and returns the first.
    pub(super) fn remove(&self) -> Result<()> {
        let mut result = Ok(());
        for (tree, _) in self
            .trees
            .0
            .iter()
            .zip(&self.dirs)
            .filter(|(_, d)| d.is_some())
        {
            let removed = tree.root.remove_tree(self.path.as_str());
            if result.is_ok() {
                result = removed;
            }
        }
        result
    }
}

fn is(error: &std::io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Writes settings in order. One that is refused as not fitting the others (a period before its
/// quota) is tried again behind them.
fn put_all(dir: &Dir, settings: &[Setting], warnings: &mut Vec<String>) -> Result<()> {
    let mut again = Vec::new();
    for setting in settings {
        match setting::put(dir, setting, warnings) {
            Err(e) if settings.len() > 1 && e.errno() == Some(Errno::INVAL.raw_os_error()) => {
                again.push(setting);
            }
            result => result?,
        }
    }
    again
        .into_iter()
        .try_for_each(|setting| setting::put(dir, setting, warnings))
}
