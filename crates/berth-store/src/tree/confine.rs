//! A thread that can change nothing outside of the trees it works on.
//!
//! What is unpacked or copied was made by somebody else. Every look-up goes through a [`RootFd`] and
//! ends inside; this is the second wall, should the first have a hole: Landlock denies the thread all
//! files that are not below the roots, and of root's capabilities it keeps those that owners, modes
//! and nodes need. Both are properties of one thread and go with it.

use std::os::fd::AsFd;

use berth_sys::root::RootFd;
use landlock::{ABI, Access, AccessFs, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::{Error, ErrorKind, Result};

/// What making files as they are described takes.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// Does `work` on a thread of its own that is confined to `roots`, and `meanwhile` on this one.
pub(crate) fn confined<T: Send, M>(
    roots: &[&RootFd],
    work: impl FnOnce() -> Result<T> + Send,
    meanwhile: impl FnOnce() -> M,
) -> (Result<T>, M) {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            confine(roots)?;
            work()
        });
        let meanwhile = meanwhile();
        let done = worker.join().unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Internal,
                "making files stopped unexpectedly",
            ))
        });
        (done, meanwhile)
    })
}

/// Confines the calling thread for ever. A kernel without Landlock has the other walls only.
fn confine(roots: &[&RootFd]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot confine the making of files: {e}"),
        )
    };
    let all = AccessFs::from_all(ABI::V3);
    let mut rules = Ruleset::default()
        .handle_access(all)
        .and_then(Ruleset::create)
        .map_err(|e| failed(&e))?;
    for root in roots {
        rules = rules
            .add_rule(PathBeneath::new(root.as_fd(), all))
            .map_err(|e| failed(&e))?;
    }
    rules.restrict_self().map_err(|e| failed(&e))?;
    let has = capabilities(None).map_err(|e| failed(&e))?;
    let sets = CapabilitySets {
        effective: has.effective & KEPT,
        permitted: has.permitted & KEPT,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_outside_can_be_made_or_read() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        let root = RootFd::open(&inside).unwrap();
        let (outcome, ()) = confined(
            &[&root],
            || {
                fs::write(inside.join("file"), "x").unwrap();
                fs::create_dir(inside.join("dir")).unwrap();
                fs::rename(inside.join("file"), inside.join("dir/file")).unwrap();
                Ok([
                    fs::read(dir.path().join("secret")).is_err(),
                    fs::write(dir.path().join("new"), "x").is_err(),
                    fs::remove_file(dir.path().join("secret")).is_err(),
                    rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).is_err(),
                ])
            },
            || (),
        );
        assert!(inside.join("dir/file").exists());
        let denied = outcome.unwrap();
        if denied == [false, false, false, true] {
            return testkit::skipped("this kernel has no Landlock");
        }
        assert_eq!(denied, [true; 4]);
        // This thread is as free as before.
        fs::write(dir.path().join("new"), "x").unwrap();
    }
}
