//! Threads that go on after a panic: what it was at is lost, and told in the log; what the thread is for
//! is not. The kernel's state is the truth here, so that whoever goes on can look at it afresh.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The names of threads whose panic ends what they were at and nothing else.
pub const KEPT_THREADS: [&str; 6] = [
    "dns",
    "dns-tcp",
    "netns",
    "network-watch",
    "ports-ipv6",
    "sandboxes",
];

/// Between a panic and the next try: what panics each time does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs `work` until it returns by itself. After a panic it runs again, and is told so.
pub(crate) fn keep(name: &str, mut work: impl FnMut(bool)) {
    let mut again = false;
    // What a panic leaves half done is either made anew by the next turn or looked at afresh.
    while catch_unwind(AssertUnwindSafe(|| work(again))).is_err() {
        tracing::error!(
            "the thread {name} panicked, which is a mistake in this program; it goes on"
        );
        std::thread::sleep(PAUSE);
        again = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_one_turn() {
        let mut turns = Vec::new();
        keep("test", |again| {
            turns.push(again);
            assert!(turns.len() == 3, "a mistake, on purpose");
        });
        assert_eq!(turns, [false, true, true]);
    }
}
