//! Memory that taking in layers may use, whatever is in them.
//!
//! Every import has a little of its own, which is enough for most layers. Who needs more takes the
//! one large room of the store, and waits for it while another has it; who has it waits for nobody.
//! So all imports at once stay below [`OWN`] each and [`LARGE`] for one of them, and a layer that
//! does not fit into that is refused. What is counted is an estimate from above.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::{Error, Result};

/// Bytes that every import may use.
const OWN: usize = 4 << 20;
/// Bytes that one import at a time may use.
const LARGE: usize = 88 << 20;

/// Who has the large room: nobody, or one.
#[derive(Debug, Default)]
struct Door {
    taken: Mutex<bool>,
    free: Condvar,
}

/// The large room of a store; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rooms(Arc<Door>);

/// What one import uses.
#[derive(Debug)]
pub(crate) struct Room {
    door: Option<Arc<Door>>,
    has_large: bool,
    used: usize,
}

impl Rooms {
    /// A room for one import, with `bytes` in use already.
    pub(crate) fn enter(&self, bytes: usize) -> Result<Room> {
        let mut room = Room {
            door: Some(self.0.clone()),
            has_large: false,
            used: 0,
        };
        room.take(bytes)?;
        Ok(room)
    }
}

impl Room {
    /// A room of a process that does one thing at a time.
    pub(crate) fn alone() -> Room {
        Room {
            door: None,
            has_large: true,
            used: 0,
        }
    }

    /// Counts `bytes` more; waits for the large room where they do not fit otherwise.
    ///
    /// # Errors
    /// `Invalid` when they do not fit at all.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<()> {
        self.used = self.used.saturating_add(bytes);
        if self.used > LARGE {
            return Err(Error::invalid(format!(
                "the layer has too many files, or too much in their headers: its index would need more than {} MiB of memory",
                LARGE >> 20
            )));
        }
        if self.used > OWN && !self.has_large {
            self.enter_large();
        }
        Ok(())
    }

    fn enter_large(&mut self) {
        let Some(door) = &self.door else { return };
        let taken = door.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = door
            .free
            .wait_while(taken, |taken| *taken)
            .unwrap_or_else(PoisonError::into_inner);
        *taken = true;
        self.has_large = true;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(door) = self.door.take().filter(|_| self.has_large) {
            *door.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
            door.free.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_large_room_and_others_wait() {
        let rooms = Rooms::default();
        let mut one = rooms.enter(OWN).unwrap();
        let mut two = rooms.enter(OWN).unwrap();
        one.take(1).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                two.take(1).unwrap();
                two.used
            });
            // More for who has it, without a wait.
            one.take(LARGE - OWN - 1).unwrap();
            drop(one);
            assert_eq!(waiting.join().unwrap(), OWN + 1);
        });
        assert!(rooms.enter(LARGE).unwrap().take(1).is_err());
        assert!(Room::alone().take(LARGE + 1).is_err());
        // Whoever was refused has left.
        rooms.enter(LARGE).unwrap();
    }
}
