//! What an engine finds when it starts: records of containers, shims that went on without it, exits
//! that nobody saw, directories that no record tells of.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use berth_network::{Existing, NetworkRecord};
use berth_runtime::cgroup::Cgroup;
use jiff::Timestamp;

use crate::container::exit;
use crate::container::record::{Container, Record};
use crate::container::state::Status;
use crate::crossing::blocking;
use crate::db::{Db, Kind};
use crate::exec::record::Kept;
use crate::task::{Exit, Found as FoundTask, Task, Tasks};
use crate::{Engine, Error, Result, container};

/// Docker's exit code of a container whose end nobody saw.
const UNSEEN: i64 = 255;
const SIGKILL: i32 = 9;

/// Records, with what became of those that ran.
pub(crate) struct Found {
    containers: Vec<(Record, Option<FoundTask>)>,
    networks: Vec<NetworkRecord>,
    execs: Kept,
    broken: Vec<String>,
}

impl Found {
    /// What the networks must know: sandboxes of containers that still run.
    pub fn existing(&self) -> Existing {
        Existing {
            networks: self.networks.clone(),
            sandboxes: self
                .containers
                .iter()
                .filter(|(_, task)| matches!(task, Some(FoundTask::Running(_))))
                .filter_map(|(record, _)| record.sandbox.clone())
                .collect(),
        }
    }
}

/// Reads the records and looks for the shims of those that ran. `cgroup` finds that of a task by its
/// ID. Blocks.
pub(crate) fn look(
    db: &Db,
    tasks: &Tasks,
    task_dirs: &Path,
    cgroup: &dyn Fn(&str) -> Option<Cgroup>,
) -> Result<Found> {
    let mut broken = db.set_strays_aside()?;
    let (records, broken_containers) = db.all::<Record>(Kind::Container)?;
    broken.extend(broken_containers);
    let (networks, broken_networks) = db.all::<NetworkRecord>(Kind::Network)?;
    broken.extend(broken_networks);
    let (execs, broken_execs) = Kept::read(db)?;
    broken.extend(broken_execs);
    let alive: BTreeSet<&str> = records
        .iter()
        .filter(|r| r.life.status.alive())
        .map(|r| r.id.as_str())
        .collect();
    end_strays(tasks, task_dirs, &alive, cgroup);
    let containers = records
        .into_iter()
        .map(|record| {
            let task = record.life.status.alive().then(|| {
                tasks
                    .reconnect(&task_dirs.join(&record.id))
                    .unwrap_or_else(|error| {
                        tracing::warn!(container.id = %record.id, %error, "its shim does not answer");
                        FoundTask::Gone
                    })
            });
            (record, task)
        })
        .collect();
    Ok(Found {
        containers,
        networks,
        execs,
        broken,
    })
}

/// Ends processes that no record tells of as running: starts that the engine did not live to record,
/// steps of builds. Their starts were never acknowledged.
fn end_strays(
    tasks: &Tasks,
    task_dirs: &Path,
    alive: &BTreeSet<&str>,
    cgroup: &dyn Fn(&str) -> Option<Cgroup>,
) {
    for entry in std::fs::read_dir(task_dirs).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if alive.contains(name.as_str()) {
            continue;
        }
        match tasks.reconnect(&entry.path()) {
            Ok(FoundTask::Running(task)) => {
                tracing::info!(task = %name, "ending a process that no record tells of");
                let ended = task.kill(SIGKILL).and_then(|()| task.wait());
                if let Err(error) = ended {
                    tracing::warn!(task = %name, %error, "it could not be ended");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(task = %name, %error, "its shim does not answer"),
        }
        // Left by a shim that was killed.
        if let Some(Err(error)) = cgroup(&name).map(|group| group.remove()) {
            tracing::warn!(task = %name, %error, "its cgroup could not be removed");
        }
        // What is left of the run; tried again at the next start.
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

/// Makes the containers that were found live again, and applies restart policies.
pub(crate) async fn take_up(engine: &Engine, found: Found) {
    for id in &found.broken {
        engine.warn(format!(
            "the record of {id} was broken and has been moved aside"
        ));
    }
    let mut to_start = Vec::new();
    let mut execs = found.execs;
    for (record, task) in found.containers {
        let container = Arc::new(Container::new(record));
        engine.0.containers.insert(container.clone());
        let ended = engine.0.tasks.exec_exits(&engine.task_dir(&container.id));
        execs.take_up(engine, &container, task.as_ref(), ended);
        match task {
            Some(FoundTask::Running(task)) => go_on(engine, &container, task),
            Some(FoundTask::Exited(exit)) => exit::ended(engine, &container, exit).await,
            Some(FoundTask::Gone) => {
                let exit = Exit {
                    code: UNSEEN,
                    signal: None,
                    oom: false,
                    unseen: true,
                    at: Timestamp::now(),
                };
                exit::ended(engine, &container, exit).await;
            }
            None => settle(engine, &container).await,
        }
        if exit::starts_with_engine(&container) {
            to_start.push(container);
        }
    }
    if let Err(error) = execs.drop_rest(&engine.0.db) {
        tracing::warn!(%error, "execs of containers that are gone could not be forgotten");
    }
    sweep(engine).await;
    engine.0.taken_up.cancel();
    for container in to_start {
        let engine = engine.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = container::order::ready(&engine, &container) => {}
                () = engine.0.closing.cancelled() => return,
            }
            if let Err(error) = container::start(&engine, &container.id).await {
                tracing::warn!(container.id = %container.id, %error, "a container could not be started again");
            }
        });
    }
}

/// A container whose shim went on.
fn go_on(engine: &Engine, container: &Arc<Container>, task: Task) {
    let task = Arc::new(task);
    let age = container::age_of_process(task.pid());
    container.live(|live| {
        live.task = Some(task.clone());
        live.began = age.and_then(|age| Instant::now().checked_sub(age));
    });
    exit::watch(engine, container, task);
    container::health::begin(engine, container);
}

/// A container that was between two states when the engine ended.
async fn settle(engine: &Engine, container: &Arc<Container>) {
    match container.status() {
        Status::Restarting => exit::schedule_restart(engine, container, 1),
        Status::Removing | Status::Dead => {
            if let Err(error) = container::remove::finish(engine, container).await {
                tracing::warn!(container.id = %container.id, %error, "a removal could not be finished");
            }
        }
        _ => {}
    }
}

/// Removes what no record tells of: snapshots and directories. What belongs to a record that broke
/// may be somebody's files, and stays.
async fn sweep(engine: &Engine) {
    let mut known: BTreeSet<String> = engine
        .0
        .containers
        .all()
        .iter()
        .map(|c| c.id.clone())
        .collect();
    let engine = engine.clone();
    let swept = blocking(move || {
        known.extend(engine.0.db.aside()?);
        for key in engine.0.store.snapshots().list()? {
            // Builders have snapshots of their own, under other keys than IDs of containers.
            if key.len() == 64 && !known.contains(&key) {
                if engine.0.records_lost {
                    engine.0.db.note_lost(Kind::Container, &key)?;
                    known.insert(key);
                    continue;
                }
                tracing::info!(snapshot = %key, "removing a snapshot that no record tells of");
                engine.0.store.snapshots().remove(&key)?;
            }
        }
        let dirs = [
            engine.0.settings.run_dir.join("containers"),
            engine.0.settings.root.join("containers"),
        ];
        for dir in dirs {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.len() == 64 && !known.contains(&name) {
                    // Tried again at the next start.
                    let _ = std::fs::remove_dir_all(entry.path());
                }
            }
        }
        Ok::<_, Error>(())
    })
    .await;
    if let Err(error) = swept {
        tracing::warn!(%error, "what no record tells of could not be removed");
    }
}
