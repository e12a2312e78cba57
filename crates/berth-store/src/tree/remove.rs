//! Removing a tree of files, by handles.
//!
//! Who filled the tree may have nested directories deeper than any path, any stack and any table of
//! descriptors goes. So nothing here recurses, and what lies deeper than [`DEPTH`] is moved up to the
//! top of the tree first.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::walk;
use crate::durable;

/// Directories that are open at a time.
const DEPTH: usize = 64;

/// Removes what `path` names, a tree of ours: the path itself is of the host.
pub(crate) fn remove(path: &Path) -> Result<(), Errno> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => remove_tree(CWD, path.as_os_str()),
        other => other,
    }
}

/// Removes the directory `name` in `parent` with all below it.
pub(crate) fn remove_tree(parent: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    let mut levels = vec![Level::open(parent.as_fd(), name)?];
    while let Some(level) = levels.last_mut() {
        let Some(inner) = level.names.pop() else {
            let name = std::mem::take(&mut level.name);
            levels.pop();
            let above = levels
                .last()
                .map_or(parent.as_fd(), |level| level.dir.as_fd());
            gone(unlinkat(above, &name, AtFlags::REMOVEDIR))?;
            continue;
        };
        match gone(unlinkat(&level.dir, &inner, AtFlags::empty())) {
            Ok(()) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
        if levels.len() < DEPTH {
            let next = Level::open(levels[levels.len() - 1].dir.as_fd(), &inner)?;
            levels.push(next);
        } else {
            // Nobody who filled the tree has guessed this name.
            let to = OsString::from(durable::unique_name().map_err(|_| Errno::IO)?);
            renameat(&levels[levels.len() - 1].dir, &inner, &levels[0].dir, &to)?;
            levels[0].names.push(to);
        }
    }
    Ok(())
}

/// A directory being emptied.
struct Level {
    name: OsString,
    dir: OwnedFd,
    names: Vec<OsString>,
}

impl Level {
    fn open(parent: impl AsFd, name: &OsStr) -> Result<Level, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(parent, name.as_bytes(), flags, Mode::empty())?;
        let names = walk::names(&dir)?;
        Ok(Level {
            name: name.to_owned(),
            dir,
            names: names.into_iter().map(OsString::from_vec).collect(),
        })
    }
}

/// Somebody else was faster.
fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn deeper_than_any_path() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut at = openat(CWD, &top, OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..5000 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", OFlags::PATH, Mode::empty()).unwrap();
        }
        fs::write(top.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), top.join("out")).unwrap();
        fs::write(dir.path().join("beside"), "x").unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        assert!(dir.path().join("beside").exists());
        remove(&dir.path().join("beside")).unwrap();
        assert_eq!(remove(&top), Err(Errno::NOENT));
    }
}
