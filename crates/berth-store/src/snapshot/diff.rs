//! What differs between a snapshot and the layers below it, in Docker's terms.
//!
//! - A thing under a name that the layers do not have is added, with all below it.
//! - A name of the layers that is gone is deleted; what was below it is not told of.
//! - A file whose mode, owner, device, size or modification time differs is modified; a directory
//!   whose mode or owner does, or with any change below it (the root excepted).

use std::path::Path;

use berth_sys::root::RootFd;
use rustix::io::Errno;

use super::below::{Below, differs, is_directory};
use super::commit::is_opaque;
use super::stubs::is_stub;
use super::{Change, ChangeKind};
use crate::tree::walk::{Found, Next, names_in, walk};
use crate::{Error, Result};

/// Compares the upper directory with the mounted layers.
pub(super) fn diff(upper: &Path, layers: &RootFd) -> Result<Vec<Change>> {
    let failed = |e: std::io::Error| Error::io("cannot compare the snapshot", e);
    let upper = RootFd::open(upper).map_err(failed)?;
    let mut differ = Differ {
        below: Below(layers),
        changes: Vec::new(),
    };
    walk(upper.into_fd(), &mut |found| {
        if is_stub(found, &differ.below)? {
            return Ok(Next::Pass);
        }
        differ.visit(found)?;
        Ok::<_, Errno>(Next::Enter)
    })
    .map_err(|e| failed(e.into()))?;
    Ok(differ.finish())
}

struct Differ<'a> {
    below: Below<'a>,
    changes: Vec<(Vec<u8>, ChangeKind)>,
}

impl Differ<'_> {
    fn visit(&mut self, found: &Found) -> std::result::Result<(), Errno> {
        let below = self.below.stat(&found.path)?;
        if found.is_whiteout() {
            if below.is_some() {
                self.changes.push((found.path.clone(), ChangeKind::Deleted));
            }
            return Ok(());
        }
        match &below {
            None => self.changes.push((found.path.clone(), ChangeKind::Added)),
            Some(below) if !found.path.is_empty() && differs(&found.stat, below) => {
                self.changes
                    .push((found.path.clone(), ChangeKind::Modified));
            }
            Some(_) => {}
        }
        if found.is_directory() && below.as_ref().is_some_and(is_directory) && is_opaque(found)? {
            self.hidden(found)?;
        }
        Ok(())
    }

    /// An opaque directory deletes what the layers have in it and it has not.
    fn hidden(&mut self, found: &Found) -> std::result::Result<(), Errno> {
        let here = names_in(found.handle())?;
        let handle = self.below.open(&found.path)?;
        for name in names_in(&handle)? {
            if here.binary_search(&name).is_err() {
                let mut path = found.path.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(name);
                self.changes.push((path, ChangeKind::Deleted));
            }
        }
        Ok(())
    }

    /// Sorted, with the directories on the way to each change.
    fn finish(self) -> Vec<Change> {
        let mut all: std::collections::BTreeMap<Vec<u8>, ChangeKind> = Default::default();
        for (path, kind) in self.changes {
            for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
                all.entry(path[..at].to_vec())
                    .or_insert(ChangeKind::Modified);
            }
            all.insert(path, kind);
        }
        all.into_iter()
            .map(|(path, kind)| Change {
                path: format!("/{}", String::from_utf8_lossy(&path)),
                kind,
            })
            .collect()
    }
}
