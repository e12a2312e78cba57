//! From the entries of a layer's tar to the tree that the layer shows.
//!
//! The rules are those that Docker's extractor has in effect, without an extractor:
//! - names are cleaned lexically; one that climbs above the root is refused, a leading `/` means
//!   nothing;
//! - a symlink of the same layer in the middle of a path is followed inside the layer, never outside,
//!   also when it points at nothing yet;
//! - a later entry replaces an earlier one of the same name, but a directory keeps what is in it;
//! - directories that are not listed appear with mode 0755 and owner 0 and are remembered: when
//!   stacked, they take their attributes from the layers below;
//! - `.wh.NAME` hides NAME of the layers below: it becomes overlayfs' form of a whiteout, a device
//!   0:0; `.wh..wh..opq` makes its directory opaque; other `.wh..wh.` names are of AUFS' own and
//!   mean nothing.

use std::collections::HashSet;

use super::Stacking;
use crate::Result;
use crate::erofs::tree::{Attributes, Data, Id, Kind, ROOT, Tree, Xattrs};
use crate::room::Room;
use crate::tree::entry::{Entry, EntryKind, components, refused};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Overlayfs' own mark.
pub(super) const OPAQUE_XATTR: &[u8] = b"trusted.overlay.opaque";
/// Symlinks that may be followed in one path, as in the kernel.
const LINKS_MAX: usize = 40;

// Bytes of memory that things take in a tree, from above: what the allocator adds, and how empty the
// leaves of a `BTreeMap` are when names come in order, is in them.
const NODE: usize = 72;
const NAME: usize = 80;
const DIRECTORY: usize = 320;
const XATTRS: usize = 480;
const XATTR: usize = 144;

/// What a layer may have at most, beside the memory that it may take ([`Room`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the uncompressed tar.
    pub(crate) bytes: u64,
    /// Files, directories and links, listed or not.
    pub(crate) entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 1 << 40,
            entries: 2_000_000,
        }
    }
}

/// A layer's tree under construction.
pub(crate) struct Builder {
    tree: Tree,
    limits: Limits,
    entries: usize,
    opaque: HashSet<Id>,
    implicit: HashSet<Id>,
    root_listed: bool,
}

impl Builder {
    /// A tree that is counted in `room`.
    pub(crate) fn new(limits: Limits, room: Room) -> Self {
        Self {
            tree: Tree::new(unlisted(), room),
            limits,
            entries: 0,
            opaque: HashSet::new(),
            implicit: HashSet::new(),
            root_listed: false,
        }
    }

    /// Applies one entry, whose content (if it is a file) is at `data`.
    pub(crate) fn apply(&mut self, entry: &Entry, data: Data) -> Result<()> {
        let refuse = |why: &str| refused(&entry.path, why);
        self.count(entry)?;
        let names = components(&entry.path).map_err(refuse)?;
        let Some((base, parents)) = names.split_last() else {
            return self.apply_root(entry);
        };
        for name in parents {
            if name.starts_with(WHITEOUT_META) {
                return Ok(());
            }
            if name.starts_with(WHITEOUT) {
                return Err(refuse("it lies below a whiteout"));
            }
        }
        if let Some(hidden) = base.strip_prefix(WHITEOUT) {
            return self.apply_whiteout(entry, parents, base, hidden);
        }
        let dir = self
            .directory(parents, Missing::Make)
            .map_err(|why| refuse(&why))?;
        if entry.kind == EntryKind::HardLink {
            return self.apply_hard_link(entry, dir, base);
        }
        let attributes = attributes(entry);
        let old = self.tree.lookup(dir, base);
        if entry.kind == EntryKind::Directory {
            match old {
                Some(id) if self.tree.node(id).is_directory() => {
                    self.tree.node_mut(id).attributes = attributes;
                    self.implicit.remove(&id);
                }
                old => {
                    let hides = old.is_some_and(|id| self.tree.node(id).is_whiteout());
                    let id = self.insert_directory(dir, base, attributes)?;
                    if hides {
                        self.make_opaque(id)?;
                    }
                }
            }
            return Ok(());
        }
        let (major, minor) = entry.device;
        let kind = match entry.kind {
            EntryKind::File => Kind::File {
                size: entry.size,
                data,
            },
            EntryKind::Symlink => Kind::Symlink(entry.link.as_slice().into()),
            EntryKind::Char => Kind::Char { major, minor },
            EntryKind::Block => Kind::Block { major, minor },
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Directory | EntryKind::HardLink => return Ok(()),
        };
        self.tree.insert(dir, base, attributes, kind);
        Ok(())
    }

    /// The tree as overlayfs reads it, and what has to be known to stack it.
    pub(crate) fn finish(mut self) -> (Tree, Stacking) {
        let mut stacking = Stacking {
            opaque: self.opaque.contains(&ROOT),
            unlisted: Vec::new(),
        };
        self.implicit.retain(|id| self.tree.node(*id).names > 0);
        if !self.root_listed {
            stacking.unlisted.push(String::new());
        }
        if !self.implicit.is_empty() {
            self.note_unlisted(&mut stacking);
        }
        for dir in std::mem::take(&mut self.opaque) {
            // What an opaque directory hides anyway needs no whiteout, and one would be seen.
            let whiteouts: Vec<Box<[u8]>> = self
                .tree
                .entries(dir)
                .filter(|(_, id)| self.tree.node(*id).is_whiteout())
                .map(|(name, _)| name.into())
                .collect();
            for name in whiteouts {
                self.tree.unlink(dir, &name);
            }
            if dir != ROOT {
                let xattrs = &mut self.tree.node_mut(dir).attributes.xattrs;
                xattrs.insert(OPAQUE_XATTR, b"y");
            }
        }
        (self.tree, stacking)
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        if self.entries.max(self.tree.len()) > self.limits.entries {
            return Err(refused(&entry.path, "the archive has too many entries"));
        }
        let name = entry.path.rsplit(|b| *b == b'/').find(|n| !n.is_empty());
        let mut bytes = NODE + NAME + name.map_or(0, <[u8]>::len) + entry.link.len();
        if !entry.xattrs.is_empty() {
            let one = |(name, value): &(Vec<u8>, Vec<u8>)| XATTR + name.len() + value.len();
            bytes += XATTRS + entry.xattrs.iter().map(one).sum::<usize>();
        }
        self.tree.take_room(bytes)
    }

    fn apply_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(refused(
                &entry.path,
                "it would replace the root by something that is no directory",
            ));
        }
        self.tree.node_mut(ROOT).attributes = attributes(entry);
        self.root_listed = true;
        Ok(())
    }

    fn apply_whiteout(
        &mut self,
        entry: &Entry,
        parents: &[&[u8]],
        base: &[u8],
        hidden: &[u8],
    ) -> Result<()> {
        let refuse = |why: &str| refused(&entry.path, why);
        if base == OPAQUE {
            let dir = self
                .directory(parents, Missing::Make)
                .map_err(|why| refuse(&why))?;
            return self.make_opaque(dir);
        }
        if base.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refuse("it is a whiteout of no name"));
        }
        let dir = self
            .directory(parents, Missing::Make)
            .map_err(|why| refuse(&why))?;
        match self.tree.lookup(dir, hidden) {
            // A whiteout is about the layers below: what this layer brings under the name stays.
            Some(id) if self.tree.node(id).is_directory() => self.make_opaque(id)?,
            Some(_) => {}
            None => {
                let kind = Kind::Char { major: 0, minor: 0 };
                self.tree.insert(dir, hidden, Attributes::default(), kind);
            }
        }
        Ok(())
    }

    fn apply_hard_link(&mut self, entry: &Entry, dir: Id, base: &[u8]) -> Result<()> {
        let refuse = |why: &str| refused(&entry.path, why);
        let names = components(&entry.link).map_err(|why| {
            refuse(&format!(
                "its target {}: {why}",
                crate::tree::entry::shown(&entry.link)
            ))
        })?;
        // A directory makes room first; what was in it can be no target then.
        if self
            .tree
            .lookup(dir, base)
            .is_some_and(|id| self.tree.node(id).is_directory())
        {
            self.tree.unlink(dir, base);
        }
        let target = names.split_last().and_then(|(last, parents)| {
            let dir = self.directory(parents, Missing::Refuse).ok()?;
            self.tree.lookup(dir, last)
        });
        let shown = crate::tree::entry::shown(&entry.link);
        match target.map(|id| (id, self.tree.node(id))) {
            Some((_, node)) if node.is_directory() => {
                Err(refuse(&format!("its target {shown} is a directory")))
            }
            Some((id, node)) if !node.is_whiteout() => {
                // Who makes files of the tree remembers the first path of each.
                self.tree.take_room(self.tree.path_len(dir) + base.len())?;
                self.tree.link(dir, base, id);
                Ok(())
            }
            _ => Err(refuse(&format!("its target {shown} is not in the archive"))),
        }
    }

    /// Walks to a directory by name; symlinks of the tree are followed within it.
    fn directory(&mut self, names: &[&[u8]], missing: Missing) -> std::result::Result<Id, String> {
        let mut at = ROOT;
        // Names still to go, last first.
        let mut todo: Vec<Box<[u8]>> = names.iter().rev().map(|name| (*name).into()).collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    at = self.tree.parent(at);
                    continue;
                }
                _ => {}
            }
            let found = self.tree.lookup(at, &name);
            match found.map(|id| (id, &self.tree.node(id).kind)) {
                Some((id, Kind::Directory(_))) => at = id,
                Some((_, Kind::Symlink(target))) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err("too many symbolic links on the way to it".into());
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    todo.extend(target.split(|b| *b == b'/').rev().map(Into::into));
                }
                Some((id, _)) if self.tree.node(id).is_whiteout() => {
                    if missing == Missing::Refuse {
                        return Err("it is not in the archive".into());
                    }
                    at = self.insert_unlisted(at, &name).map_err(|e| e.to_string())?;
                    self.make_opaque(at).map_err(|e| e.to_string())?;
                }
                Some(_) => {
                    return Err("it lies below something that is no directory".into());
                }
                None if missing == Missing::Refuse => {
                    return Err("it is not in the archive".into());
                }
                None => {
                    if self.tree.len() > self.limits.entries {
                        return Err("the archive has too many entries".into());
                    }
                    at = self.insert_unlisted(at, &name).map_err(|e| e.to_string())?;
                }
            }
        }
        Ok(at)
    }

    /// A new directory. What is made of the tree later remembers its path (to set its times).
    fn insert_directory(&mut self, dir: Id, name: &[u8], attributes: Attributes) -> Result<Id> {
        let path = self.tree.path_len(dir) + name.len();
        self.tree.take_room(DIRECTORY + path)?;
        Ok(self.tree.insert_directory(dir, name, attributes))
    }

    /// A directory that no entry has told of: its path goes into the layer's record.
    fn insert_unlisted(&mut self, dir: Id, name: &[u8]) -> Result<Id> {
        let path = self.tree.path_len(dir) + name.len();
        self.tree.take_room(NODE + NAME + name.len() + 3 * path)?;
        let id = self.insert_directory(dir, name, unlisted())?;
        self.implicit.insert(id);
        Ok(id)
    }

    fn make_opaque(&mut self, dir: Id) -> Result<()> {
        if self.opaque.insert(dir) {
            self.tree.take_room(XATTRS + self.tree.path_len(dir))?;
        }
        Ok(())
    }

    /// Collects the paths of directories that the tar does not list. Opaque ones and what is below
    /// them have nothing to take from other layers.
    fn note_unlisted(&self, stacking: &mut Stacking) {
        let mut paths = self.tree.paths();
        while let Some((id, path)) = paths.next() {
            if self.opaque.contains(&id) {
                paths.pass();
            } else if self.implicit.contains(&id)
                && let Ok(text) = std::str::from_utf8(path)
            {
                stacking.unlisted.push(text.to_owned());
            }
        }
        stacking.unlisted.sort_unstable();
    }
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Refuse,
}

/// The attributes of a directory that no entry tells of.
fn unlisted() -> Attributes {
    Attributes {
        mode: 0o755,
        ..Attributes::default()
    }
}

fn attributes(entry: &Entry) -> Attributes {
    let mut xattrs = Xattrs::default();
    for (name, value) in &entry.xattrs {
        xattrs.insert(name, value);
    }
    Attributes {
        // A link has all bits on Linux, whatever the archive says.
        mode: match entry.kind {
            EntryKind::Symlink => 0o777,
            _ => entry.mode,
        },
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime.0,
        nanoseconds: entry.mtime.1,
        xattrs,
    }
}
