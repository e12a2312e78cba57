//! The file tree that an index image shows, built in memory from a layer's entries.

use std::collections::BTreeMap;

use crate::Result;
use crate::room::Room;

/// A position in [`Tree`]; the root is [`ROOT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(u32);

pub(crate) const ROOT: Id = Id(0);

/// Owner, permissions and times of an inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits with set-id and sticky (`0o7777`).
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch.
    pub(crate) mtime: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) xattrs: Xattrs,
}

type ByName = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Extended attributes: full names and values. Most inodes have none, and pay one word for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Xattrs(Option<Box<ByName>>);

impl Xattrs {
    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.0
            .get_or_insert_default()
            .insert(name.into(), value.into());
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.iter().any(|(own, _)| own == name)
    }

    /// In the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.0.iter().flat_map(|map| map.iter());
        all.map(|(name, value)| (&**name, &**value))
    }
}

/// Where the bytes of a file lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// The file is empty.
    None,
    /// In the tar, from this block (of 512 bytes).
    Tar(u64),
    /// In the side file, from this block.
    Side(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory(Box<Directory>),
    File { size: u64, data: Data },
    Symlink(Box<[u8]>),
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// What is in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    parent: Id,
    /// Bytes of the path from the root to it.
    path: u32,
    entries: BTreeMap<Box<[u8]>, Id>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) kind: Kind,
    /// Names that lead here (directories: always one).
    pub(crate) names: u32,
}

impl Node {
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// The form in which overlayfs hides a name of the layers below: a character device 0:0.
    pub(crate) fn is_whiteout(&self) -> bool {
        matches!(self.kind, Kind::Char { major: 0, minor: 0 })
    }
}

/// Nodes that are allocated together: growing moves none of them.
const PIECE: usize = 1024;

/// Inodes and the names that lead to them.
#[derive(Debug)]
pub(crate) struct Tree {
    pieces: Vec<Vec<Node>>,
    /// The memory that it is counted in.
    room: Room,
}

impl Tree {
    /// A tree of nothing but a root directory.
    pub(crate) fn new(root: Attributes, room: Room) -> Tree {
        let mut tree = Tree {
            pieces: Vec::new(),
            room,
        };
        tree.add(root, Kind::Directory(Box::default()));
        tree.node_mut(ROOT).names = 1;
        tree
    }

    /// Counts memory that goes with the tree.
    pub(crate) fn take_room(&mut self, bytes: usize) -> Result<()> {
        self.room.take(bytes)
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.pieces[id.0 as usize / PIECE][id.0 as usize % PIECE]
    }

    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.pieces[id.0 as usize / PIECE][id.0 as usize % PIECE]
    }

    /// Nodes ever made, an upper bound of those still named.
    pub(crate) fn len(&self) -> usize {
        let full = self.pieces.len().saturating_sub(1) * PIECE;
        full + self.pieces.last().map_or(0, Vec::len)
    }

    fn add(&mut self, attributes: Attributes, kind: Kind) -> Id {
        let id = Id(self.len() as u32);
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            // The first grows as it needs: most trees are small.
            let whole = if self.pieces.is_empty() { 0 } else { PIECE };
            self.pieces.push(Vec::with_capacity(whole));
        }
        let node = Node {
            attributes,
            kind,
            names: 0,
        };
        if let Some(piece) = self.pieces.last_mut() {
            piece.push(node);
        }
        id
    }

    fn directory(&self, id: Id) -> Option<&Directory> {
        match &self.node(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The entry `name` of a directory; `None` also where `dir` is none.
    pub(crate) fn lookup(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.directory(dir)?.entries.get(name).copied()
    }

    /// The directory above a directory (the root's is the root).
    pub(crate) fn parent(&self, dir: Id) -> Id {
        self.directory(dir)
            .map_or(ROOT, |directory| directory.parent)
    }

    /// Bytes of the path from the root to a directory.
    pub(crate) fn path_len(&self, dir: Id) -> usize {
        self.directory(dir)
            .map_or(0, |directory| directory.path as usize)
    }

    /// Puts a new directory with nothing in it under `name`, which replaces what stood there.
    pub(crate) fn insert_directory(&mut self, dir: Id, name: &[u8], attributes: Attributes) -> Id {
        let kind = Kind::Directory(Box::new(Directory {
            parent: dir,
            path: (self.path_len(dir) + name.len() + 1) as u32,
            entries: BTreeMap::new(),
        }));
        self.insert(dir, name, attributes, kind)
    }

    /// Puts a new node that is no directory under `name`, which replaces what stood there.
    pub(crate) fn insert(
        &mut self,
        dir: Id,
        name: &[u8],
        attributes: Attributes,
        kind: Kind,
    ) -> Id {
        let id = self.add(attributes, kind);
        self.link(dir, name, id);
        id
    }

    /// Gives an existing node another name, which replaces what stood there.
    pub(crate) fn link(&mut self, dir: Id, name: &[u8], id: Id) {
        self.node_mut(id).names += 1;
        if let Kind::Directory(directory) = &mut self.node_mut(dir).kind
            && let Some(old) = directory.entries.insert(name.into(), id)
        {
            self.forget(old);
        }
    }

    /// Takes a name away, with all below it.
    pub(crate) fn unlink(&mut self, dir: Id, name: &[u8]) {
        if let Kind::Directory(directory) = &mut self.node_mut(dir).kind
            && let Some(old) = directory.entries.remove(name)
        {
            self.forget(old);
        }
    }

    /// A name of `id` is gone: so are those in it, were it the last one.
    fn forget(&mut self, id: Id) {
        let mut gone = vec![id];
        while let Some(id) = gone.pop() {
            let node = self.node_mut(id);
            node.names = node.names.saturating_sub(1);
            if node.names == 0
                && let Kind::Directory(directory) = &mut node.kind
            {
                gone.extend(std::mem::take(&mut directory.entries).into_values());
            }
        }
    }

    /// All nodes, also those that have lost their names.
    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.pieces.iter_mut().flatten()
    }

    pub(crate) fn entries(&self, dir: Id) -> impl Iterator<Item = (&[u8], Id)> {
        let entries = self.directory(dir).map(|directory| &directory.entries);
        entries
            .into_iter()
            .flatten()
            .map(|(name, id)| (&**name, *id))
    }

    /// Every node that has a name, each once: a directory before what is in it, the entries of one
    /// directory side by side.
    pub(crate) fn breadth_first(&self) -> Vec<Id> {
        let mut seen = vec![false; self.len()];
        let mut order = vec![ROOT];
        seen[0] = true;
        let mut next = 0;
        while next < order.len() {
            for (_, id) in self.entries(order[next]) {
                if !std::mem::replace(&mut seen[id.0 as usize], true) {
                    order.push(id);
                }
            }
            next += 1;
        }
        order
    }

    /// Every name with its path from the root (`a/b`, without a `/` in front); the root first.
    pub(crate) fn paths(&self) -> Paths<'_> {
        Paths {
            tree: self,
            above: Vec::new(),
            path: Vec::new(),
            next_into: None,
            begun: false,
        }
    }

    /// An index for tables beside the tree.
    pub(crate) fn index(id: Id) -> usize {
        id.0 as usize
    }
}

type Entries<'a> = Box<dyn Iterator<Item = (&'a [u8], Id)> + 'a>;

/// A walk over all names of a tree, whose one path changes from step to step. A node of several names
/// comes several times.
pub(crate) struct Paths<'a> {
    tree: &'a Tree,
    /// The directories on the way: what is still to come in each, and how long its path is.
    above: Vec<(Entries<'a>, usize)>,
    path: Vec<u8>,
    /// The directory that was given last.
    next_into: Option<Id>,
    begun: bool,
}

impl Paths<'_> {
    /// The next name: a directory before what is in it.
    pub(crate) fn next(&mut self) -> Option<(Id, &[u8])> {
        if !std::mem::replace(&mut self.begun, true) {
            self.next_into = Some(ROOT);
            return Some((ROOT, &self.path));
        }
        if let Some(dir) = self.next_into.take() {
            let entries = Box::new(self.tree.entries(dir));
            self.above.push((entries, self.path.len()));
        }
        while let Some((entries, len)) = self.above.last_mut() {
            self.path.truncate(*len);
            let Some((name, id)) = entries.next() else {
                self.above.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend(name);
            self.next_into = self.tree.node(id).is_directory().then_some(id);
            return Some((id, &self.path));
        }
        None
    }

    /// Passes over what is in the directory that was given last.
    pub(crate) fn pass(&mut self) {
        self.next_into = None;
    }
}
