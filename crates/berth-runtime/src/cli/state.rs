//! What is kept of a container between two commands.
//!
//! ```text
//! <root>/<id>/state.json   [`Saved`]
//! <root>/<id>/exec.fifo    there until the container is started; its first process waits at it
//! ```

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use berth_spec::oci::runtime::{Namespace, NamespaceKind, Spec, Status};
use jiff::Timestamp;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, Cgroups};
use crate::error::{Context, Error, Result};
use crate::process::start_time;

const STATE_MAX: u64 = 32 << 20;

/// A container as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    pub id: String,
    pub pid: i32,
    /// In clock ticks after boot: tells the process from a later one of its number.
    pub start_time: u64,
    pub bundle: PathBuf,
    pub cgroup: String,
    /// systemd's name of the cgroup, if it has made it.
    #[serde(default)]
    pub unit: Option<String>,
    pub created: Timestamp,
    pub spec: Spec,
}

/// The directory of one container.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub fn of(root: &Path, id: &str) -> Self {
        Self {
            path: root.join(id),
        }
    }

    /// Makes it; fails where there is one of that name.
    pub fn create(root: &Path, id: &str) -> Result<Self> {
        let what = || format!("state directory {}", root.display());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(root)
            .context(what)?;
        let directory = Self::of(root, id);
        match std::fs::DirBuilder::new()
            .mode(0o711)
            .create(&directory.path)
        {
            Ok(()) => Ok(directory),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::new(
                crate::ErrorKind::Conflict,
                format!("container with given ID already exists: {id}"),
            )),
            Err(e) => Err(e).context(what),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fifo(&self) -> PathBuf {
        self.path.join("exec.fifo")
    }

    /// Makes the FIFO, and opens a handle of it.
    pub fn make_fifo(&self) -> Result<OwnedFd> {
        let what = || "exec.fifo".to_owned();
        let mode = Mode::from_raw_mode(0o622);
        let path = self.fifo();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
            .context(what)?;
        // Past the umask: the root of a user namespace, who is nobody here, opens it for writing.
        rustix::fs::chmodat(rustix::fs::CWD, &path, mode, AtFlags::empty()).context(what)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(rustix::fs::CWD, &path, flags, Mode::empty()).context(what)
    }

    /// Held by a command that changes the container.
    pub fn lock(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = openat(rustix::fs::CWD, &self.path, flags, Mode::empty())
            .map_err(|_| Error::gone("container does not exist"))?;
        flock(&lock, FlockOperation::LockExclusive)
            .context(|| "locking the container".to_owned())?;
        Ok(lock)
    }

    pub fn save(&self, saved: &Saved) -> Result<()> {
        let what = || format!("saving the state of {}", saved.id);
        let text = serde_json::to_vec(saved).context(what)?;
        let aside = self.path.join("state.new");
        std::fs::write(&aside, text).context(what)?;
        std::fs::rename(aside, self.path.join("state.json")).context(what)
    }

    pub fn load(&self) -> Result<Saved> {
        let path = self.path.join("state.json");
        let what = || path.display().to_string();
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::gone("container does not exist"));
            }
            Err(e) => return Err(e).context(what),
        };
        let mut text = Vec::new();
        file.take(STATE_MAX).read_to_end(&mut text).context(what)?;
        serde_json::from_slice(&text).context(what)
    }

    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context(|| self.path.display().to_string())
            }
            _ => Ok(()),
        }
    }

    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }
}

impl Saved {
    /// A descriptor of its first process; none once that has ended.
    pub fn pidfd(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        (start_time(self.pid).ok()? == self.start_time && !self.zombie()).then_some(pidfd)
    }

    /// Ended, but nobody has asked how.
    fn zombie(&self) -> bool {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        text.is_ok_and(|text| {
            let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
            matches!(after.trim_start().chars().next(), Some('Z' | 'X'))
        })
    }

    /// Whether it has a PID namespace of its own, with whose first process all others end.
    pub fn own_pids(&self) -> bool {
        let linux = self.spec.linux.as_ref();
        let namespaces = linux.map_or(&[][..], |l| &l.namespaces);
        let own = |n: &Namespace| n.kind == NamespaceKind::Pid && n.path.is_empty();
        namespaces.iter().any(own)
    }

    /// Its root on the host.
    pub fn rootfs(&self) -> PathBuf {
        rootfs(&self.spec, &self.bundle)
    }

    pub fn open_cgroup(&self) -> Result<Cgroup> {
        self.open_cgroup_in(&cgroups()?)
    }

    /// The same where the trees have been looked up already.
    pub fn open_cgroup_in(&self, cgroups: &Cgroups) -> Result<Cgroup> {
        let opened = cgroups.open(&self.cgroup);
        opened.map_err(|e| Error::internal(e.to_string()))
    }

    pub fn status(&self, directory: &Directory) -> Status {
        if self.pidfd().is_none() {
            return Status::Stopped;
        }
        if self.open_cgroup().is_ok_and(|cgroup| cgroup.frozen()) {
            return Status::Paused;
        }
        if directory.fifo().exists() {
            return Status::Created;
        }
        Status::Running
    }
}

/// Where a document has its root, on the host.
pub(super) fn rootfs(spec: &Spec, bundle: &Path) -> PathBuf {
    let path = spec.root.as_ref().map_or("", |root| &root.path);
    bundle.join(if path.is_empty() { "rootfs" } else { path })
}

/// Every tree that is mounted: whoever uses a runtime may look at any of them.
pub(super) fn cgroups() -> Result<Cgroups> {
    Cgroups::detect_all().map_err(|e| Error::internal(format!("cgroup: {e}")))
}

/// Everything kept below a root. What cannot be read is passed over.
pub(super) fn list(root: &Path) -> Vec<(Saved, Status)> {
    let Ok(entries) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let mut found: Vec<(Saved, Status)> = entries
        .flatten()
        .filter_map(|entry| {
            let directory = Directory { path: entry.path() };
            let saved = directory.load().ok()?;
            let status = saved.status(&directory);
            Some((saved, status))
        })
        .collect();
    found.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    found
}
