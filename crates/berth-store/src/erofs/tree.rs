//! The file tree that an index image shows, built in memory from a layer's entries.

use std::collections::BTreeMap;

/// A position in [`Tree`]; the root is [`ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Full names and values.
    pub(crate) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
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
    Directory {
        parent: Id,
        entries: BTreeMap<Box<[u8]>, Id>,
    },
    File {
        size: u64,
        data: Data,
    },
    Symlink(Box<[u8]>),
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
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
        matches!(self.kind, Kind::Directory { .. })
    }

    /// The form in which overlayfs hides a name of the layers below: a character device 0:0.
    pub(crate) fn is_whiteout(&self) -> bool {
        matches!(self.kind, Kind::Char { major: 0, minor: 0 })
    }
}

/// Inodes and the names that lead to them.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// A tree of nothing but a root directory.
    pub(crate) fn new(root: Attributes) -> Tree {
        Tree {
            nodes: vec![Node {
                attributes: root,
                kind: Kind::Directory {
                    parent: ROOT,
                    entries: BTreeMap::new(),
                },
                names: 1,
            }],
        }
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Nodes ever made, an upper bound of those still named.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The entry `name` of a directory; `None` also where `dir` is none.
    pub(crate) fn lookup(&self, dir: Id, name: &[u8]) -> Option<Id> {
        match &self.node(dir).kind {
            Kind::Directory { entries, .. } => entries.get(name).copied(),
            _ => None,
        }
    }

    /// The directory above a directory (the root's is the root).
    pub(crate) fn parent(&self, dir: Id) -> Id {
        match self.node(dir).kind {
            Kind::Directory { parent, .. } => parent,
            _ => ROOT,
        }
    }

    /// Puts a new node under `name`, which replaces what stood there.
    pub(crate) fn insert(
        &mut self,
        dir: Id,
        name: &[u8],
        attributes: Attributes,
        kind: Kind,
    ) -> Id {
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(Node {
            attributes,
            kind,
            names: 0,
        });
        self.link(dir, name, id);
        id
    }

    /// Gives an existing node another name, which replaces what stood there.
    pub(crate) fn link(&mut self, dir: Id, name: &[u8], id: Id) {
        self.node_mut(id).names += 1;
        if let Kind::Directory { entries, .. } = &mut self.node_mut(dir).kind
            && let Some(old) = entries.insert(name.into(), id)
        {
            self.forget(old);
        }
    }

    /// Takes a name away, with all below it.
    pub(crate) fn unlink(&mut self, dir: Id, name: &[u8]) {
        if let Kind::Directory { entries, .. } = &mut self.node_mut(dir).kind
            && let Some(old) = entries.remove(name)
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
                && let Kind::Directory { entries, .. } = &mut node.kind
            {
                gone.extend(std::mem::take(entries).into_values());
            }
        }
    }

    /// All nodes, also those that have lost their names.
    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut()
    }

    pub(crate) fn entries(&self, dir: Id) -> impl Iterator<Item = (&[u8], Id)> {
        let entries = match &self.node(dir).kind {
            Kind::Directory { entries, .. } => Some(entries),
            _ => None,
        };
        entries
            .into_iter()
            .flatten()
            .map(|(name, id)| (&**name, *id))
    }

    /// Every node that has a name, each once: a directory before what is in it, the entries of one
    /// directory side by side.
    pub(crate) fn breadth_first(&self) -> Vec<Id> {
        let mut seen = vec![false; self.nodes.len()];
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

    /// An index for tables beside the tree.
    pub(crate) fn index(id: Id) -> usize {
        id.0 as usize
    }
}
