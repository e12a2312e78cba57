//! The walls around whoever makes files.
//!
//! What is unpacked or copied was made by somebody else. Every look-up goes through a [`RootFd`] and
//! ends inside; what is here holds should that have a hole. Landlock denies all files that are not
//! below the roots, and of root's capabilities those stay that owners, modes and nodes need. That much
//! can be done to a thread ([`confined`]); the processes of [`super::Extractor`] get more.
//!
//! [`RootFd`]: berth_sys::root::RootFd

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::{Error, ErrorKind, Result};

/// What making files as they are described takes.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// The trees that are worked on; of the second kind things are only read.
#[derive(Clone, Copy, Default)]
pub(super) struct Roots<'a> {
    pub(super) written: &'a [BorrowedFd<'a>],
    pub(super) read: &'a [BorrowedFd<'a>],
}

/// Does `work` on a thread of its own that is confined to `roots`, and `meanwhile` on this one.
pub(super) fn confined<T: Send, M>(
    roots: Roots<'_>,
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

/// Confines the calling thread for ever, and sets `no_new_privs`. A kernel without Landlock has the
/// other walls only.
pub(super) fn confine(roots: Roots<'_>) -> Result<()> {
    let has = capabilities(None).map_err(|e| failed(&e))?;
    let sets = CapabilitySets {
        effective: has.effective & KEPT,
        permitted: has.permitted & KEPT,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(|e| failed(&e))?;
    let all = AccessFs::from_all(ABI::V5);
    let mut rules = Ruleset::default()
        .handle_access(all)
        .and_then(Ruleset::create)
        .map_err(|e| failed(&e))?;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let rights = [(roots.written, all), (roots.read, read)];
    for (root, access) in rights
        .into_iter()
        .flat_map(|(roots, access)| roots.iter().map(move |root| (root, access)))
    {
        rules = rules
            .add_rule(PathBeneath::new(root, access))
            .map_err(|e| failed(&e))?;
    }
    rules.restrict_self().map(drop).map_err(|e| failed(&e))
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("cannot confine the making of files: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use berth_sys::root::RootFd;

    use super::*;

    #[test]
    fn nothing_outside_can_be_made_or_read() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["inside", "source"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("there"), "x").unwrap();
        }
        let inside = dir.path().join("inside");
        fs::write(dir.path().join("secret"), "x").unwrap();
        let root = RootFd::open(&inside).unwrap();
        let source = RootFd::open(&dir.path().join("source")).unwrap();
        let roots = Roots {
            written: &[root.as_fd()],
            read: &[source.as_fd()],
        };
        let (outcome, ()) = confined(
            roots,
            || {
                fs::write(inside.join("file"), "x").unwrap();
                fs::create_dir(inside.join("dir")).unwrap();
                fs::rename(inside.join("file"), inside.join("dir/file")).unwrap();
                fs::read(dir.path().join("source/there")).unwrap();
                Ok([
                    fs::read(dir.path().join("secret")).is_err(),
                    fs::write(dir.path().join("new"), "x").is_err(),
                    fs::remove_file(dir.path().join("secret")).is_err(),
                    fs::write(dir.path().join("source/new"), "x").is_err(),
                    rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).is_err(),
                ])
            },
            || (),
        );
        assert!(inside.join("dir/file").exists());
        let denied = outcome.unwrap();
        if denied == [false, false, false, false, true] {
            return testkit::skipped("this kernel has no Landlock");
        }
        assert_eq!(denied, [true; 5]);
        // This thread is as free as before.
        fs::write(dir.path().join("new"), "x").unwrap();
    }
}
