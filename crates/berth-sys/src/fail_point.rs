//! Fail points: named places between two steps at which a test can have the process killed, as
//! `kill -9` would at that very moment. They are there in debug builds and with the feature
//! `fail-points`; elsewhere [`fail_point`] is nothing at all.
//!
//! ```text
//! <dir>/at        the name of the point at which to end
//! <dir>/passed    the names of the points that were passed, a line each, in their order
//! ```
//!
//! A name says whose step it is and what has just been done: `container.create.recorded`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

/// Whether this build has fail points.
pub const ENABLED: bool = cfg!(any(debug_assertions, feature = "fail-points"));

static DIR: OnceLock<PathBuf> = OnceLock::new();

/// From here on this process, and those it forks, look into `dir` at every fail point. Only the first
/// call counts, and only where there are fail points.
pub fn watch(dir: PathBuf) {
    if ENABLED {
        // A second one is a mistake of the caller that changes nothing.
        let _ = DIR.set(dir);
    }
}

/// A place at which a test may end the process.
#[inline(always)]
pub fn fail_point(name: &'static str) {
    if ENABLED {
        passed(name);
    }
}

#[cold]
fn passed(name: &str) {
    let Some(dir) = DIR.get() else {
        return;
    };
    let options = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(dir.join("passed"));
    // A test that does not see what it waits for says so itself.
    let _ = options.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
    if fs::read_to_string(dir.join("at")).is_ok_and(|at| at.trim_end() == name) {
        let _ = kill_process(getpid(), Signal::KILL);
        loop {
            // The signal is on its way.
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_a_point_is_noted() {
        fail_point("nobody.watches");
        let dir = tempfile::tempdir().unwrap();
        watch(dir.path().to_owned());
        fail_point("one");
        fs::write(dir.path().join("at"), "three").unwrap();
        fail_point("two");
        let passed = fs::read_to_string(dir.path().join("passed")).unwrap();
        assert_eq!(passed, "one\ntwo\n");
    }
}
