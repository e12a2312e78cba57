//! What is kept of a container, and the container as it lives in the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_network::SandboxRecord;
use berth_spec::docker::container::Health;
use berth_spec::docker::{ContainerConfig, EndpointSettings, HostConfig};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::plan::MountRecord;
use super::state::{Happening, Status, next};
use crate::db::{Db, Kind};
use crate::ids::IdMaps;
use crate::task::Task;
use crate::{Error, Result};

/// Everything about a container that outlives the engine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without a slash.
    pub name: String,
    pub created: Timestamp,
    /// The image's ID; empty for a container without an image.
    pub image: String,
    /// `os/arch`.
    pub platform: String,
    /// As asked for, with what the image says.
    pub config: ContainerConfig,
    /// As asked for, with defaults; `container:` modes name whole IDs.
    pub host: HostConfig,
    /// Networks it belongs to by name, with what was asked of them.
    pub networks: BTreeMap<String, EndpointSettings>,
    pub mounts: Vec<MountRecord>,
    pub life: Life,
    /// While it runs: where its packets go.
    #[serde(default)]
    pub sandbox: Option<SandboxRecord>,
    /// Path of the sandbox's namespace.
    #[serde(default)]
    pub sandbox_key: String,
    /// The IDs that are this container's alone (`--userns=auto`), from its creation to its removal.
    #[serde(default)]
    pub own_ids: Option<IdMaps>,
    /// The IDs of the user namespace it ran in last; none in the host's.
    #[serde(default)]
    pub ids: Option<IdMaps>,
    #[serde(default)]
    pub health: Option<Health>,
}

/// Where a container stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Life {
    pub status: Status,
    /// 0 while it does not run.
    pub pid: i32,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub exit_code: i64,
    /// Why it could not be started.
    pub error: String,
    /// Why it ended, where that is more than its own exit ([`super::cause`]).
    #[serde(default)]
    pub cause: String,
    pub oom_killed: bool,
    pub restart_count: i64,
    /// A user ended it: the restart policy does not apply.
    pub stopped_by_user: bool,
    /// It is being removed, and its anonymous volumes with it.
    #[serde(default)]
    pub with_volumes: bool,
}

/// What those who wait look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse {
    pub running: bool,
    /// How often it ended since the engine knows it.
    pub exits: u64,
    pub removed: bool,
    pub exit_code: i64,
    pub error: String,
    pub cause: String,
    pub health: String,
}

/// A client that attached before the container ran: the far end of its stream.
pub(crate) struct Attaching {
    pub stream: OwnedFd,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// What a container has while the engine runs.
#[derive(Default)]
pub(crate) struct Live {
    pub task: Option<Arc<Task>>,
    /// When its run began, by a clock that nobody sets: the wall clock may jump.
    pub began: Option<Instant>,
    pub attaching: Vec<Attaching>,
    /// Ends the wait before the next start by policy.
    pub restart: Option<CancellationToken>,
    /// Ends the health probes.
    pub probes: Option<CancellationToken>,
    pub execs: BTreeSet<String>,
}

/// A container of this engine.
pub(crate) struct Container {
    pub id: String,
    /// Held by verbs that change what the container is: start, remove, rename, network changes.
    pub key: tokio::sync::Mutex<()>,
    record: Mutex<Record>,
    live: Mutex<Live>,
    pub pulse: watch::Sender<Pulse>,
}

impl Container {
    pub fn new(record: Record) -> Self {
        let pulse = Pulse {
            running: record.life.status.running(),
            exit_code: record.life.exit_code,
            error: record.life.error.clone(),
            ..Pulse::default()
        };
        Self {
            id: record.id.clone(),
            key: tokio::sync::Mutex::default(),
            record: Mutex::new(record),
            live: Mutex::default(),
            pulse: watch::channel(pulse).0,
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the record. Nothing slow in `look`.
    pub fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record())
    }

    /// A copy of the whole record.
    pub fn snapshot(&self) -> Record {
        self.record().clone()
    }

    /// Looks at what lives only as long as the engine. Nothing slow in `look`.
    pub fn live<T>(&self, look: impl FnOnce(&mut Live) -> T) -> T {
        look(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long it has run; none where it does not, or where nobody saw it begin.
    pub fn age(&self) -> Option<Duration> {
        self.live(|live| live.began.map(|began| began.elapsed()))
    }

    /// The running task; Docker's words where there is none.
    pub fn task(&self) -> Result<Arc<Task>> {
        self.live(|live| live.task.clone())
            .ok_or_else(|| Error::conflict(format!("container {} is not running", self.id)))
    }

    /// Name without a slash.
    pub fn name(&self) -> String {
        self.read(|r| r.name.clone())
    }

    pub fn status(&self) -> Status {
        self.read(|r| r.life.status)
    }

    /// Changes the record and keeps it. If it cannot be kept, it stays as it was.
    pub fn change<T>(&self, db: &Db, change: impl FnOnce(&mut Record) -> T) -> Result<T> {
        self.change_with(|record| db.put(Kind::Container, &self.id, record), change)
    }

    /// The same with another way to keep it, such as one that keeps something else in the same moment.
    pub fn change_with<T>(
        &self,
        keep: impl FnOnce(&Record) -> Result<()>,
        change: impl FnOnce(&mut Record) -> T,
    ) -> Result<T> {
        let mut record = self.record();
        let before = record.clone();
        let answer = change(&mut record);
        if let Err(error) = keep(&record) {
            *record = before;
            return Err(error);
        }
        Ok(answer)
    }

    /// Lets something happen: the state follows [`next`], `change` fills in the rest, and those who
    /// wait are told. Where the record cannot be kept the state in memory still moves on: the kernel
    /// has moved on too.
    pub fn happen(
        &self,
        db: &Db,
        happening: Happening,
        change: impl FnOnce(&mut Record),
    ) -> Result<()> {
        let mut record = self.record();
        record.life.status = next(record.life.status, happening, &record.name)?;
        change(&mut record);
        let kept = db.put(Kind::Container, &self.id, &*record);
        let life = record.life.clone();
        drop(record);
        self.pulse.send_modify(|pulse| {
            pulse.running = life.status.running();
            pulse.exit_code = life.exit_code;
            pulse.error = life.error.clone();
            pulse.cause = life.cause.clone();
            pulse.exits += u64::from(matches!(
                happening,
                Happening::Exited | Happening::WillRestart
            ));
        });
        kept
    }
}
