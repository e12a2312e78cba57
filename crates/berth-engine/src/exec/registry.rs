//! The execs of an engine, in memory; what is kept of them is told in [`super::record`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_spec::docker::ExecCreateBody;
use tokio::sync::watch;

use crate::task::Exit;

/// Execs that are remembered at most; the oldest that have ended go first.
const MAX: usize = 4096;

/// Where an exec stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecState {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { code: i64 },
}

/// A further process in a container.
pub(crate) struct Exec {
    pub id: String,
    pub container: String,
    pub body: ExecCreateBody,
    pub state: watch::Sender<ExecState>,
}

impl Exec {
    pub fn state(&self) -> ExecState {
        *self.state.borrow()
    }
}

/// All execs, in the order they came.
#[derive(Default)]
pub(crate) struct Execs(Mutex<Index>);

#[derive(Default)]
struct Index {
    by_id: HashMap<String, Arc<Exec>>,
    order: Vec<String>,
}

impl Execs {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one; the ID of one that had to be forgotten for it.
    pub fn insert(&self, exec: Arc<Exec>) -> Option<String> {
        let mut index = self.index();
        let mut forgotten = None;
        if index.order.len() >= MAX {
            let ended = index.order.iter().position(|id| {
                index.by_id.get(id).is_none_or(|e| {
                    !matches!(e.state(), ExecState::Running { .. } | ExecState::Starting)
                })
            });
            if let Some(position) = ended {
                let id = index.order.remove(position);
                index.by_id.remove(&id);
                forgotten = Some(id);
            }
        }
        index.order.push(exec.id.clone());
        index.by_id.insert(exec.id.clone(), exec);
        forgotten
    }

    /// IDs of a container's.
    pub fn of(&self, container: &str) -> Vec<String> {
        let index = self.index();
        let own = index.by_id.values().filter(|e| e.container == container);
        own.map(|e| e.id.clone()).collect()
    }

    /// The exec of this ID, or whose ID begins so and no other's does.
    pub fn get(&self, id: &str) -> Option<Arc<Exec>> {
        let index = self.index();
        if let Some(exec) = index.by_id.get(id) {
            return Some(exec.clone());
        }
        let mut found = index
            .by_id
            .iter()
            .filter(|(k, _)| !id.is_empty() && k.starts_with(id));
        match (found.next(), found.next()) {
            (Some((_, exec)), None) => Some(exec.clone()),
            _ => None,
        }
    }

    /// It runs; or has ended already, if its end was told first: that stays.
    pub fn started(&self, exec: &Exec, pid: i32) {
        exec.state.send_if_modified(|state| {
            let starting = *state == ExecState::Starting;
            if starting {
                *state = ExecState::Running { pid };
            }
            starting
        });
    }

    /// It ended.
    pub fn ended(&self, id: &str, exit: Exit) {
        let exec = self.index().by_id.get(id).cloned();
        if let Some(exec) = exec {
            exec.state
                .send_replace(ExecState::Ended { code: exit.code });
        }
    }

    /// The container is gone.
    pub fn forget(&self, container: &str) {
        let mut index = self.index();
        index.by_id.retain(|_, e| e.container != container);
        let Index { by_id, order } = &mut *index;
        order.retain(|id| by_id.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jiff::Timestamp;

    use super::*;

    const EXIT: Exit = Exit {
        code: 7,
        signal: None,
        oom: false,
        unseen: false,
        at: Timestamp::UNIX_EPOCH,
    };

    /// A short program's end is told by one thread while another one is told of its start.
    #[test]
    fn an_end_is_never_lost_to_a_start() {
        let execs = Execs::default();
        let all: Vec<_> = (0..4000)
            .map(|number| {
                let exec = Arc::new(Exec {
                    id: number.to_string(),
                    container: "c".to_owned(),
                    body: ExecCreateBody::default(),
                    state: watch::channel(ExecState::Starting).0,
                });
                execs.insert(exec.clone());
                exec
            })
            .collect();
        // Both threads go through all of them, side by side, so that they meet at some.
        let turn = AtomicUsize::new(0);
        let meet = |at: usize| {
            turn.fetch_add(1, Ordering::SeqCst);
            while turn.load(Ordering::SeqCst) < 2 * (at + 1) {
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (at, exec) in all.iter().enumerate() {
                    meet(at);
                    execs.started(exec, 1);
                }
            });
            for (at, exec) in all.iter().enumerate() {
                meet(at);
                execs.ended(&exec.id, EXIT);
            }
        });
        for exec in all {
            assert_eq!(exec.state(), ExecState::Ended { code: 7 }, "{}", exec.id);
        }
    }
}
