//! What is kept of execs, so that an engine that starts again knows them: it is still the shim that
//! knows which of them run and how they ended meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use berth_spec::docker::ExecCreateBody;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::registry::{Exec, ExecState};
use crate::container::record::Container;
use crate::db::{Batch, Db, Kind};
use crate::task::Found;
use crate::{Engine, Result};

/// Docker's exit code of what was killed.
const KILLED: i64 = 137;

/// An exec as it is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ExecRecord {
    id: String,
    container: String,
    body: ExecCreateBody,
    /// It was handed to the shim.
    started: bool,
    code: Option<i64>,
    /// When this was written: the oldest are forgotten first.
    at: Timestamp,
}

/// Keeps where an exec stands.
pub(super) fn keep(db: &Db, exec: &Exec, state: ExecState) -> Result<()> {
    let record = ExecRecord {
        id: exec.id.clone(),
        container: exec.container.clone(),
        body: exec.body.clone(),
        started: state != ExecState::Created,
        code: match state {
            ExecState::Ended { code } => Some(code),
            _ => None,
        },
        at: Timestamp::now(),
    };
    db.put(Kind::Exec, &exec.id, &record)
}

/// The records of an engine that starts, by container, oldest first.
pub(crate) struct Kept(BTreeMap<String, Vec<ExecRecord>>);

impl Kept {
    /// Reads them; also the IDs of those that were broken.
    pub fn read(db: &Db) -> Result<(Self, Vec<String>)> {
        let (mut records, broken) = db.all::<ExecRecord>(Kind::Exec)?;
        records.sort_by_key(|r| r.at);
        let mut kept: BTreeMap<String, Vec<ExecRecord>> = BTreeMap::new();
        for record in records {
            kept.entry(record.container.clone())
                .or_default()
                .push(record);
        }
        Ok((Self(kept), broken))
    }

    /// Knows the execs of a container again. `ended` is what its shim left word of.
    pub fn take_up(
        &mut self,
        engine: &Engine,
        container: &Arc<Container>,
        task: Option<&Found>,
        ended: Vec<(String, i64)>,
    ) {
        let mut ended: HashMap<String, i64> = ended.into_iter().collect();
        let mut running = HashMap::new();
        if let Some(Found::Running(task)) = task {
            running.extend(task.execs());
            ended.extend(task.ended_execs());
        }
        for record in self.0.remove(&container.id).unwrap_or_default() {
            let pid = running.get(&record.id);
            let state = match (record.code, ended.get(&record.id), pid) {
                (Some(code), ..) | (None, Some(&code), _) => ExecState::Ended { code },
                (None, None, Some(&pid)) => ExecState::Running { pid },
                (None, None, None) if record.started => ExecState::Ended { code: KILLED },
                (None, None, None) => ExecState::Created,
            };
            let exec = Arc::new(Exec {
                id: record.id,
                container: record.container,
                body: record.body,
                state: watch::channel(state).0,
            });
            engine.0.execs.insert(exec.clone());
            match state {
                ExecState::Ended { .. } if record.code.is_none() => remember(engine, &exec, state),
                ExecState::Ended { .. } => {}
                ExecState::Running { .. } => {
                    container.live(|live| live.execs.insert(exec.id.clone()));
                    super::watch_end(engine, container, &exec);
                }
                _ => {
                    container.live(|live| live.execs.insert(exec.id.clone()));
                }
            }
        }
    }

    /// Forgets those of containers that are no more.
    pub fn drop_rest(self, db: &Db) -> Result<()> {
        let mut batch = Batch::default();
        for record in self.0.into_values().flatten() {
            batch.remove(Kind::Exec, &record.id);
        }
        db.write(batch)
    }
}

/// Keeps how an exec ended, which has happened whether it can be kept or not.
pub(super) fn remember(engine: &Engine, exec: &Exec, state: ExecState) {
    if let Err(error) = keep(&engine.0.db, exec, state) {
        tracing::warn!(exec.id = %exec.id, %error, "the end of an exec could not be recorded");
    }
}
