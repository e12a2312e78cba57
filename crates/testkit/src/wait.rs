//! Waiting for an event with a deadline, where the event has no descriptor to poll.

use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};

/// A test that has waited this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `done` again and again until it answers; panics with `what` after [`DEADLINE`].
///
/// For things of other programs only, which tell nobody when they are ready.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain: {what}");
        pause();
    }
}

/// Ten milliseconds.
pub(crate) fn pause() {
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    // An empty poll set is a pause; being interrupted only asks earlier.
    let _ = poll(&mut [], Some(&pause));
}
