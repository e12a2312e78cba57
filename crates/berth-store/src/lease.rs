//! Leases: what keeps content alive while a step that needs it is under way.
//!
//! A *lease* holds blobs and layers. The collector removes only what no image, snapshot or record
//! refers to **and** no lease holds. Leases live in memory: one process has the store open at a time
//! (a lock file sees to it), so a lease that outlives its process has nobody to serve, and what a
//! crash left unreferenced may go at the next collection.
//!
//! The order that makes it safe: hold first, look second. The collector freezes the leases from the
//! moment it marks until what it condemns has been moved out of sight; so what is held and then seen
//! is there for as long as the lease.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use berth_spec::Digest;

/// What a lease can hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Blob(Digest),
    /// By diff ID.
    Layer(Digest),
}

/// All leases of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    thawed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many leases hold it.
    held: HashMap<Held, usize>,
    frozen: bool,
}

impl Leases {
    /// A new lease that holds nothing yet.
    pub(crate) fn lease(&self) -> Lease {
        Lease(Arc::new(Hold {
            leases: self.clone(),
            items: Mutex::default(),
        }))
    }

    /// Stops everyone who wants to hold something more, until the guard goes.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        let mut state = self.wait_until_thawed();
        state.frozen = true;
        Frozen(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_thawed(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.frozen {
            state = self
                .0
                .thawed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }
}

/// No lease gains anything while this lives.
pub(crate) struct Frozen<'a>(&'a Leases);

impl Frozen<'_> {
    /// Whether some lease holds `item`.
    pub(crate) fn holds(&self, item: &Held) -> bool {
        self.0.lock().held.contains_key(item)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.lock().frozen = false;
        self.0.0.thawed.notify_all();
    }
}

/// Keeps what it holds from being collected; cheap to clone, released when the last clone goes.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    leases: Leases,
    items: Mutex<Vec<Held>>,
}

impl Lease {
    /// Holds the blob `digest`, whether it is there yet or not.
    pub fn hold_blob(&self, digest: &Digest) {
        self.hold(Held::Blob(digest.clone()));
    }

    /// Holds the layer `diff_id`, whether it is there yet or not.
    pub fn hold_layer(&self, diff_id: &Digest) {
        self.hold(Held::Layer(diff_id.clone()));
    }

    fn hold(&self, item: Held) {
        *self
            .0
            .leases
            .wait_until_thawed()
            .held
            .entry(item.clone())
            .or_default() += 1;
        self.0
            .items
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(item);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let items = std::mem::take(self.items.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut state = self.leases.lock();
        for item in items {
            if let Some(count) = state.held.get_mut(&item) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(&item);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_until_the_last_lease_goes() {
        let leases = Leases::default();
        let digest = crate::hash::sha256(b"x");
        let (one, two) = (leases.lease(), leases.lease());
        one.hold_blob(&digest);
        two.hold_blob(&digest);
        let twin = two.clone();
        drop((one, two));
        assert!(leases.freeze().holds(&Held::Blob(digest.clone())));
        drop(twin);
        let frozen = leases.freeze();
        assert!(!frozen.holds(&Held::Blob(digest.clone())));
        assert!(!frozen.holds(&Held::Layer(digest)));
    }

    #[test]
    fn nobody_holds_while_frozen() {
        let leases = Leases::default();
        let digest = crate::hash::sha256(b"x");
        let frozen = leases.freeze();
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let lease = leases.lease();
                lease.hold_layer(&digest);
                lease
            });
            assert!(!frozen.holds(&Held::Layer(digest.clone())));
            drop(frozen);
            let lease = holder.join().unwrap();
            assert!(leases.freeze().holds(&Held::Layer(digest.clone())));
            drop(lease);
        });
    }
}
