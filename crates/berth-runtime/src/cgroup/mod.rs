//! Control groups: limits, counting, freezing and killing, under v1, hybrid and pure v2.
//!
//! [`Cgroups`] holds the roots of the mounted trees open; ask for it once. A [`Cgroup`] is one
//! cgroup by its path, the same in every tree. What differs between the layouts stays in `v1` and
//! `v2`; in the hybrid layout limits are v1's, while v2 kills, freezes and lets a process be born
//! inside.
//!
//! ```text
//! Cgroups::detect ─ create(path, resources) ─▶ Cgroup ─ join ─▶ descriptors for the child
//!                                                │ stats, pids, freeze, thaw, update, oom_event
//!                                                └ kill_all, remove
//! ```
//!
//! Moving a process (a write to `cgroup.procs`) after a quiet spell waits for an RCU grace period,
//! some 8 ms. A child that is cloned into a v2 cgroup does not pay it, nor one forked from a
//! process that is inside already; [`favor_moves`] takes it away for the whole machine.

mod below;
mod device;
mod device_program;
mod dir;
mod error;
mod favor;
mod layout;
mod path;
mod setting;
mod stats;
mod support;
mod v1;
mod v2;
mod view;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_spec::oci::runtime::LinuxResources;
use rustix::process::{Pid, Signal, kill_process};

pub use below::{SubCgroup, parse_sub_cgroups};
pub use error::{Error, Result};
pub use favor::favor_moves;
pub use path::CgroupPath;
pub use stats::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats};
pub use support::Support;

use dir::Dir;

/// How long killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Which cgroup file systems this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A tree for each controller.
    V1,
    /// v1 trees, and a v2 tree beside them.
    Hybrid,
    /// One v2 tree.
    V2,
}

/// The mounted trees; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    v1: Option<Arc<v1::Trees>>,
    v2: Option<Arc<v2::Tree>>,
}

impl Cgroups {
    /// Looks up what is mounted (`/proc/self/mountinfo`) and opens the roots. Beside a v2 tree, that of
    /// the v1 freezer is left alone: v2 freezes better, and one tree less is one directory less for
    /// each container.
    pub fn detect() -> Result<Cgroups> {
        let mut found = Self::detect_all()?;
        if let Some(trees) = &mut found.v1
            && found.layout == Layout::Hybrid
        {
            let without = |trees: &mut v1::Trees| {
                trees.0.retain(|t| t.controllers != ["freezer"]);
            };
            // Nobody else has it yet.
            Arc::get_mut(trees).map(without);
        }
        Ok(found)
    }

    /// The same with every tree, for who cannot know which of them others will look at.
    pub fn detect_all() -> Result<Cgroups> {
        let file = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(file).map_err(|source| Error::File {
            verb: "read",
            file: file.to_owned(),
            source,
        })?;
        Self::from_mounts(layout::parse(&text))
    }

    fn from_mounts(mounts: Vec<layout::CgroupMount>) -> Result<Cgroups> {
        let mut trees = Vec::new();
        let mut unified = None;
        for mount in mounts {
            // A mount may be hidden under a later one.
            let Some(root) = Dir::mount_point(&mount.point) else {
                continue;
            };
            if mount.v2 {
                unified = Some(Arc::new(v2::Tree::new(root)?));
            } else {
                let controllers = mount.controllers;
                trees.push(v1::Tree { controllers, root });
            }
        }
        let layout = match (&trees[..], &unified) {
            ([], None) => return Err(Error::NotMounted),
            ([], Some(_)) => Layout::V2,
            (_, None) => Layout::V1,
            (_, Some(_)) => Layout::Hybrid,
        };
        Ok(Cgroups {
            layout,
            v1: (!trees.is_empty()).then(|| Arc::new(v1::Trees(trees))),
            v2: unified,
        })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What can be limited and counted here.
    pub fn support(&self) -> Support {
        support::probe(self.v1.as_deref(), self.v2.as_deref())
    }

    /// Makes a cgroup with these limits and device rules (closed but for what the rules and the
    /// runtime allow). Limits that this machine does not have are discarded, and told by
    /// [`Cgroup::warnings`].
    ///
    /// An empty cgroup of that path is made anew; one with processes is [`Error::Busy`]. On an
    /// error nothing is left behind but parents that were needed.
    pub fn create(&self, path: &str, resources: &LinuxResources) -> Result<Cgroup> {
        self.make(path, resources, Found::Refused)
    }

    /// The same with a cgroup that somebody else has made, as far as he has: it stays as it is but for
    /// its limits, with the processes in it, also on an error.
    pub fn adopt(&self, path: &str, resources: &LinuxResources) -> Result<Cgroup> {
        self.make(path, resources, Found::Taken)
    }

    fn make(&self, path: &str, resources: &LinuxResources, found: Found) -> Result<Cgroup> {
        let path = CgroupPath::parse(path)?;
        let v1 = match &self.v1 {
            Some(trees) => Some(trees.create(&path, found)?),
            None => None,
        };
        let mut cgroup = Cgroup {
            path,
            v1,
            v2: None,
            warnings: Vec::new(),
        };
        if let Err(error) = self.fill(&mut cgroup, resources, found) {
            if found == Found::Refused {
                // The first failure is what is told; nothing has joined yet.
                let _ = cgroup.remove_dirs();
            }
            return Err(error);
        }
        Ok(cgroup)
    }

    fn fill(&self, cgroup: &mut Cgroup, resources: &LinuxResources, found: Found) -> Result<()> {
        if let Some(tree) = &self.v2 {
            let wanted = match self.layout {
                Layout::V2 => &tree.controllers[..],
                _ if resources.hugepage_limits.is_empty() => &[],
                _ => &["hugetlb".to_owned()],
            };
            cgroup.v2 = Some(tree.create(&cgroup.path, wanted, found)?);
        }
        let mut warnings = Vec::new();
        cgroup.apply(resources, true, &mut warnings)?;
        cgroup.restrict_devices(resources, &mut warnings)?;
        cgroup.warnings = warnings;
        Ok(())
    }

    /// The cgroup of that path, in as many trees as have it.
    pub fn open(&self, path: &str) -> Result<Cgroup> {
        let path = CgroupPath::parse(path)?;
        let v1 = match &self.v1 {
            Some(trees) => trees.open(&path)?,
            None => None,
        };
        let v2 = match &self.v2 {
            Some(tree) => tree.open(&path)?,
            None => None,
        };
        if v1.is_none() && v2.is_none() {
            return Err(Error::NotFound(path.to_string()));
        }
        Ok(Cgroup {
            path,
            v1,
            v2,
            warnings: Vec::new(),
        })
    }

    /// Removes a parent that has no cgroup left below it and no process; one in use stays.
    pub fn remove_if_empty(&self, path: &str) -> Result<()> {
        let path = CgroupPath::parse(path)?;
        let roots = self.v1.iter().flat_map(|t| &t.0).map(|t| &t.root);
        for root in roots.chain(self.v2.iter().map(|t| &t.root)) {
            root.remove_if_empty(path.as_str());
        }
        Ok(())
    }
}

/// What becomes of a cgroup that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// One with processes is refused, an empty one is made anew.
    Refused,
    Taken,
}

/// Makes `path` below a root, with its parents; `parent_made` is told of each new parent.
fn make(
    root: &Dir,
    path: &CgroupPath,
    found: Found,
    mut parent_made: impl FnMut(&str) -> Result<()>,
) -> Result<Dir> {
    let made = match root.make_dir(path.as_str()) {
        Err(e) if e.errno() == Some(rustix::io::Errno::NOENT.raw_os_error()) => {
            for parent in path.parents() {
                if root.make_dir(parent)? {
                    parent_made(parent)?;
                }
            }
            root.make_dir(path.as_str())?
        }
        made => made?,
    };
    let missing = || Error::NotFound(path.to_string());
    let dir = root.open_dir(path.as_str())?.ok_or_else(missing)?;
    if made || found == Found::Taken {
        return Ok(dir);
    }
    let pids = dir.pids()?.len();
    if pids > 0 {
        let path = path.to_string();
        return Err(Error::Busy { path, pids });
    }
    let frozen = |file: &str, word: &str| {
        let text = dir.read_if_there(file);
        text.is_some_and(|text| text.trim() == word)
    };
    if frozen("freezer.state", "FROZEN") || frozen("cgroup.freeze", "1") {
        return Err(Error::Frozen(path.to_string()));
    }
    // Left over from a crash: its limits are unknown, so it is made anew.
    drop(dir);
    root.remove_tree(path.as_str())?;
    root.make_dir(path.as_str())?;
    root.open_dir(path.as_str())?.ok_or_else(missing)
}

/// What a child needs to join a cgroup without allocating.
#[derive(Debug)]
pub struct Join {
    /// For `CLONE_INTO_CGROUP`: the v2 directory.
    pub into: Option<OwnedFd>,
    /// `cgroup.procs` of the v1 trees: writing `0` moves the writer.
    pub procs: Vec<OwnedFd>,
    /// `cgroup.procs` of the v2 tree, for a child that was not cloned into it.
    pub unified_procs: Option<OwnedFd>,
}

impl Join {
    /// Every `cgroup.procs` that a child not cloned into the cgroup has to write `0` to.
    pub fn all_procs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.procs
            .iter()
            .chain(&self.unified_procs)
            .map(AsFd::as_fd)
    }
}

/// A descriptor that becomes readable when the memory limit may have cost a process; then ask
/// [`Cgroup::oom_kills`]. It also wakes when the cgroup is removed.
#[derive(Debug)]
pub struct OomEvent(OwnedFd);

impl OomEvent {
    /// Takes what is there to be read, so that the descriptor waits again.
    pub fn drain(&self) {
        let mut buffer = [0; 512];
        // Not blocking: EAGAIN ends it.
        while rustix::io::read(&self.0, &mut buffer).is_ok_and(|n| n == buffer.len()) {}
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for OomEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One cgroup. Dropping it leaves the cgroup where it is.
#[derive(Debug)]
pub struct Cgroup {
    path: CgroupPath,
    v1: Option<v1::Group>,
    v2: Option<v2::Group>,
    warnings: Vec<String>,
}

impl Cgroup {
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// What was asked for at creation and discarded, in Docker's words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Descriptors for a child to join by.
    pub fn join(&self) -> Result<Join> {
        let procs = match &self.v1 {
            Some(group) => group.procs_files()?,
            None => Vec::new(),
        };
        let mut join = Join {
            into: None,
            procs,
            unified_procs: None,
        };
        if let Some(group) = &self.v2 {
            let into = group.dir().try_clone_to_owned();
            join.into = Some(into.map_err(|source| Error::File {
                verb: "open",
                file: self.path.to_string(),
                source,
            })?);
            join.unified_procs = Some(group.procs_file()?);
        }
        Ok(join)
    }

    /// The v2 directory, for `CLONE_INTO_CGROUP`.
    pub fn dir(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(v2::Group::dir)
    }

    /// Moves a process with all its threads into the cgroup.
    pub fn add(&self, pid: i32) -> Result<()> {
        if let Some(group) = &self.v1 {
            group.add(pid)?;
        }
        match &self.v2 {
            Some(group) => group.add(pid),
            None => Ok(()),
        }
    }

    /// Changes the limits that are named; device rules only where there are some. Returns what had
    /// to be discarded.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        self.apply(resources, false, &mut warnings)?;
        if !resources.devices.is_empty() {
            self.restrict_devices(resources, &mut warnings)?;
        }
        Ok(warnings)
    }

    fn apply(
        &self,
        resources: &LinuxResources,
        fresh: bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        match (&self.v1, &self.v2) {
            (Some(v1), v2) => {
                let Some(v2) = v2
                    .as_ref()
                    .filter(|_| !resources.hugepage_limits.is_empty())
                else {
                    return v1.apply(resources, fresh, warnings);
                };
                // Beside v1 trees, huge pages are v2's to limit.
                let mut rest = resources.clone();
                let huge = LinuxResources {
                    hugepage_limits: std::mem::take(&mut rest.hugepage_limits),
                    ..LinuxResources::default()
                };
                v1.apply(&rest, fresh, warnings)?;
                v2.apply(&huge, fresh, warnings)
            }
            (None, Some(v2)) => v2.apply(resources, fresh, warnings),
            (None, None) => Ok(()),
        }
    }

    fn restrict_devices(
        &self,
        resources: &LinuxResources,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        match (&self.v1, &self.v2) {
            (Some(v1), _) if v1.has_devices() => v1.restrict_devices(&resources.devices, warnings),
            (_, Some(v2)) => v2.restrict_devices(&resources.devices),
            _ => Err(Error::Invalid(
                "cannot restrict devices: neither the devices controller nor cgroup v2 is mounted"
                    .to_owned(),
            )),
        }
    }

    /// The processes in it and below, in this process's PID namespace.
    pub fn pids(&self) -> Result<Vec<i32>> {
        match (&self.v1, &self.v2) {
            // A container that moves its processes may do so in one tree alone.
            (Some(v1), Some(v2)) => {
                let mut pids = v1.pids()?;
                pids.extend(v2.pids()?);
                pids.sort_unstable();
                pids.dedup();
                Ok(pids)
            }
            (Some(v1), None) => v1.pids(),
            (None, Some(v2)) => v2.pids(),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Stops every process where it stands; returns when all have stopped.
    pub fn freeze(&self) -> Result<()> {
        match (&self.v1, &self.v2) {
            (Some(v1), None) => v1.freeze(),
            (_, Some(v2)) => v2.freeze(),
            (None, None) => Ok(()),
        }
    }

    /// The directory by which its processes are frozen.
    pub fn freezer(&self) -> Option<String> {
        let v1 = self.v1.as_ref().and_then(v1::Group::freezer);
        let v2 = self.v2.as_ref().map(|v2| v2.directory().name().to_owned());
        v1.or(v2)
    }

    /// Lets frozen processes go on, in whichever tree they were frozen.
    pub fn thaw(&self) -> Result<()> {
        let v1 = self.v1.as_ref().map_or(Ok(()), v1::Group::thaw);
        let v2 = self.v2.as_ref().map_or(Ok(()), v2::Group::thaw);
        v1.and(v2)
    }

    /// Whether the processes are frozen.
    pub fn frozen(&self) -> bool {
        let v1 = self.v1.as_ref().and_then(v1::Group::frozen);
        v1.unwrap_or(false) || self.v2.as_ref().is_some_and(v2::Group::frozen)
    }

    /// Sends a signal to every process in it and below, as far as they are still there.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        for pid in self.pids()? {
            if let Some(pid) = Pid::from_raw(pid) {
                // It may be gone meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
        Ok(())
    }

    /// Kills every process in it and below, frozen ones too, and returns when all are gone from
    /// the cgroup (dead but unreaped ones are).
    pub fn kill_all(&self) -> Result<()> {
        let deadline = Instant::now() + KILL_DEADLINE;
        let mut pause = Duration::from_micros(200);
        if let Some(v2) = &self.v2
            && v2.kill()?
        {
            v2.wait_empty(KILL_DEADLINE)?;
        }
        while !self.pids()?.is_empty() {
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    path: self.path.to_string(),
                    verb: "end",
                });
            }
            self.kill_once()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    /// One round of killing by hand. Frozen, no process can fork meanwhile, nor can its number be
    /// given to another.
    fn kill_once(&self) -> Result<()> {
        let can_freeze = self.v2.is_some() || self.v1.as_ref().is_some_and(v1::Group::has_freezer);
        if can_freeze {
            // Killing without is racy but goes on in rounds.
            let _ = self.freeze();
        }
        let sent = self.signal_all(Signal::KILL);
        // Not only where all had stopped in time.
        let thawed = if can_freeze { self.thaw() } else { Ok(()) };
        sent.and(thawed)
    }

    /// What it has used so far.
    pub fn stats(&self) -> Stats {
        match (&self.v1, &self.v2) {
            (Some(v1), _) => v1.stats(),
            (None, Some(v2)) => v2.stats(),
            (None, None) => Stats::default(),
        }
    }

    /// What it has used of the processors so far: a part of [`stats`](Self::stats), read by itself.
    pub fn cpu_stats(&self) -> CpuStats {
        match (&self.v1, &self.v2) {
            (Some(v1), _) => v1.cpu_stats(),
            (None, Some(v2)) => v2.cpu_stats(),
            (None, None) => CpuStats::default(),
        }
    }

    /// How many processes the kernel has killed here for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let v1 = self.v1.as_ref().and_then(v1::Group::oom_kills);
        v1.or_else(|| self.v2.as_ref().and_then(v2::Group::oom_kills))
            .unwrap_or(0)
    }

    /// A descriptor to wait on for kills of that kind; `None` where memory is not controlled.
    pub fn oom_event(&self) -> Result<Option<OomEvent>> {
        let fd = match (&self.v1, &self.v2) {
            (Some(v1), _) => v1.oom_event()?,
            (None, Some(v2)) => v2.oom_event()?,
            (None, None) => None,
        };
        Ok(fd.map(OomEvent))
    }

    /// Kills what is left in it and removes it, with cgroups that were made below it. One that is
    /// gone already is no error.
    pub fn remove(&self) -> Result<()> {
        match self.pids() {
            Ok(pids) if pids.is_empty() => {}
            Ok(_) => self.kill_all()?,
            // Removed by others: reading fails with ENODEV or ENOENT.
            Err(_) => {}
        }
        self.remove_dirs()
    }

    fn remove_dirs(&self) -> Result<()> {
        let v1 = self.v1.as_ref().map_or(Ok(()), v1::Group::remove);
        let v2 = self.v2.as_ref().map_or(Ok(()), v2::Group::remove);
        v1.and(v2)
    }
}

#[cfg(test)]
mod tests;
