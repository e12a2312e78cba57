//! Fetches that are under way: one per blob, however many ask for it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

/// How far a fetch has come.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Upstream has not answered yet.
    Asking,
    /// So many bytes of so many are in the file.
    Going {
        file: Arc<File>,
        size: u64,
        reached: u64,
    },
    /// The blob is here, verified.
    Landed,
    /// It did not come; whether upstream has no such blob, and why.
    Failed(bool, Arc<str>),
}

/// All fetches that are under way.
#[derive(Default)]
pub(crate) struct Flights {
    blobs: Mutex<HashMap<String, watch::Receiver<Stage>>>,
    turns: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

/// Somebody who asks for a blob.
pub(crate) enum Boarding {
    /// The first: it fetches, and tells the others by this.
    First(watch::Sender<Stage>, watch::Receiver<Stage>),
    /// Others follow.
    Another(watch::Receiver<Stage>),
}

impl Flights {
    /// Joins the fetch of `key`, or begins it.
    pub(crate) fn board(&self, key: &str) -> Boarding {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = blobs.get(key)
            && stage.has_changed().is_ok()
        {
            return Boarding::Another(stage.clone());
        }
        let (sender, receiver) = watch::channel(Stage::Asking);
        blobs.insert(key.to_owned(), receiver.clone());
        Boarding::First(sender, receiver)
    }

    /// The fetch of `key` has ended; who asks from now on looks for itself.
    pub(crate) fn end(&self, key: &str) {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.remove(key);
    }

    /// Waits until nobody else does `key`.
    pub(crate) async fn turn(&self, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::default();
                    turns.insert(key.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}
