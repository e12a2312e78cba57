//! Manifests in memory: what is asked for again and again is answered without the record.
//!
//! The memory never outlives what it was read from: a writer forgets the repository after its
//! transaction, and a reader's find is kept only if nothing was forgotten since it began to look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::record::{Manifest, now};
use super::route::Target;

/// Bytes of manifests that are kept.
const BYTES_MAX: usize = 32 << 20;
/// What an entry costs besides its bytes, about.
const ENTRY: usize = 512;
/// A pull is noted at most this often per manifest, in seconds.
const NOTE_AFTER: i64 = 60;

/// A manifest that is in memory.
pub(crate) struct Kept {
    pub(crate) manifest: Manifest,
    noted: AtomicI64,
}

impl Kept {
    pub(crate) fn new(manifest: Manifest) -> Arc<Self> {
        Arc::new(Self {
            manifest,
            noted: AtomicI64::new(0),
        })
    }

    /// Whether this pull is one to write down.
    pub(crate) fn is_noteworthy(&self) -> bool {
        let (noted, now) = (self.noted.load(Ordering::Relaxed), now());
        now - noted >= NOTE_AFTER
            && self
                .noted
                .compare_exchange(noted, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// When a look began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

/// What is in memory. Where other replicas change the record, nothing is: nobody would tell us.
pub(crate) struct Memory {
    state: RwLock<State>,
    keeps: bool,
}

#[derive(Default)]
struct State {
    forgotten: u64,
    bytes: usize,
    repositories: HashMap<String, Repository>,
}

#[derive(Default)]
struct Repository {
    tags: HashMap<String, Arc<Kept>>,
    digests: HashMap<String, Arc<Kept>>,
}

impl Memory {
    /// An empty memory, which remembers only if it `keeps`.
    pub(crate) fn new(keeps: bool) -> Self {
        Self {
            state: RwLock::default(),
            keeps,
        }
    }

    /// The manifest, if it is here; else the moment to hand to [`keep`](Self::keep).
    pub(crate) fn get(&self, repository: &str, target: &Target) -> Result<Arc<Kept>, Moment> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let found = state
            .repositories
            .get(repository)
            .and_then(|r| match target {
                Target::Tag(tag) => r.tags.get(tag),
                Target::Digest(digest) => r.digests.get(digest.as_str()),
            });
        found.cloned().ok_or(Moment(state.forgotten))
    }

    /// Keeps what a look that began at `since` has found.
    pub(crate) fn keep(
        &self,
        since: Moment,
        repository: &str,
        target: &Target,
        manifest: Manifest,
    ) -> Arc<Kept> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !self.keeps || state.forgotten != since.0 {
            return Kept::new(manifest);
        }
        if state.bytes > BYTES_MAX {
            state.repositories.clear();
            state.bytes = 0;
        }
        let digest = manifest.digest.to_string();
        let known = state
            .repositories
            .get(repository)
            .and_then(|r| r.digests.get(&digest))
            .cloned();
        let kept = known.unwrap_or_else(|| Kept::new(manifest));
        state.bytes += kept.manifest.bytes.len() + ENTRY;
        let of = state.repositories.entry(repository.to_owned()).or_default();
        of.digests.insert(digest, kept.clone());
        if let Target::Tag(tag) = target {
            of.tags.insert(tag.clone(), kept.clone());
        }
        kept
    }

    /// Forgets what is known of `repository`, which has changed.
    pub(crate) fn forget(&self, repository: &str) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.forgotten += 1;
        if let Some(gone) = state.repositories.remove(repository) {
            let bytes: usize = gone
                .digests
                .values()
                .map(|k| k.manifest.bytes.len() + ENTRY)
                .sum();
            state.bytes = state.bytes.saturating_sub(bytes + gone.tags.len() * ENTRY);
        }
    }
}
