//! `COPY` and `ADD`: what goes where, decided in memory and written straight into a new layer.
//!
//! The root file system below is only looked at, through a read-only mount. Nothing is written into
//! it, so no link in it or in what is copied can lead a write anywhere.

mod mode;
mod owner;
mod stream;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(crate) use mode::ModeChange;
pub(crate) use owner::{Owner, find_owner};
pub(crate) use stream::LayerStream;

use crate::ignore::Ignore;
use crate::source::{
    ENTRIES_MAX, Node, NodeKind, Resolved, Rootfs, Source, not_a_directory, resolve, shown,
    too_many,
};
use crate::{Error, Result};

/// One thing to copy.
pub(crate) struct Item<'a> {
    pub(crate) source: &'a dyn Source,
    /// In the source, links followed.
    pub(crate) path: PathBuf,
    /// Its last name, as it was asked for.
    pub(crate) name: PathBuf,
    /// An archive's tree: owners are kept, directories are entered through links.
    pub(crate) unpacked: bool,
}

/// How things are copied.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    /// For everything that is made.
    pub(crate) owner: Option<Owner>,
    /// Without an owner: keep those of the source, or let root have it.
    pub(crate) keep_owner: bool,
    pub(crate) mode: Option<ModeChange>,
    pub(crate) exclude: Ignore,
}

/// A layer being put together.
pub(crate) struct NewLayer<'a> {
    below: &'a Rootfs,
    entries: BTreeMap<PathBuf, Emitted<'a>>,
    /// Directories that take the place of something else: what is below there is not seen.
    opaque: HashSet<PathBuf>,
    /// Seconds since 1970, for directories that nothing gives a time.
    now: i64,
}

struct Emitted<'a> {
    node: Node,
    content: Option<(&'a dyn Source, PathBuf)>,
    /// A directory of the layers below, repeated since something in it changes.
    repeated: bool,
}

impl<'a> NewLayer<'a> {
    pub(crate) fn new(below: &'a Rootfs, now: i64) -> Self {
        NewLayer {
            below,
            entries: BTreeMap::new(),
            opaque: HashSet::new(),
            now,
        }
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.values().all(|entry| entry.repeated)
    }

    /// What is there now: new, or below.
    pub(crate) fn stat(&self, path: &Path) -> Result<Option<Node>> {
        if let Some(entry) = self.entries.get(path) {
            return Ok(Some(entry.node.clone()));
        }
        let hidden = path
            .ancestors()
            .skip(1)
            .any(|above| self.opaque.contains(above));
        if hidden {
            return Ok(None);
        }
        self.below.stat(path)
    }

    fn resolve(&self, path: &Path) -> Result<Resolved> {
        resolve(&|path| self.stat(path), path, true)
    }

    /// Makes the directory `path` and those above it, where they are missing.
    pub(crate) fn make_directory(&mut self, path: &str, owner: Option<Owner>) -> Result<()> {
        let found = self.resolve(Path::new(path))?;
        match found.node {
            Some(node) if node.is_dir() => Ok(()),
            Some(_) => Err(not_a_directory(Path::new(path))),
            None => self.directories(&found.path, owner, self.now),
        }
    }

    /// Copies `items` to `destination`, an absolute path that ends in `/` where it has to be a
    /// directory.
    pub(crate) fn copy(
        &mut self,
        items: &[Item<'a>],
        destination: &str,
        manner: &Manner,
    ) -> Result<()> {
        for item in items {
            let Some(node) = item.source.stat(&item.path)? else {
                return Err(Error::invalid(format!("{} vanished", shown(&item.path))));
            };
            let target = self.resolve(Path::new(destination))?;
            if node.is_dir() {
                match &target.node {
                    Some(there) if !there.is_dir() => return Err(over(&target.path)),
                    Some(_) => {}
                    None => self.directories(&target.path, manner.owner, node.mtime)?,
                }
                self.tree(item, &target.path, manner)?;
                continue;
            }
            let into = destination.ends_with('/')
                || target.node.as_ref().is_some_and(|there| there.is_dir());
            let path = match (into, target.node) {
                (true, Some(there)) if !there.is_dir() => return Err(over(&target.path)),
                (true, _) => target.path.join(&item.name),
                (false, _) => target.path,
            };
            self.one(item, &item.path, node, &path, manner)?;
        }
        Ok(())
    }

    /// Copies what is in the directory `item.path` into `target`.
    fn tree(&mut self, item: &Item<'a>, target: &Path, manner: &Manner) -> Result<()> {
        let mut found = Vec::new();
        crate::source::walk(item.source, &item.path, &mut |path, node| {
            if found.len() >= ENTRIES_MAX {
                return Err(too_many());
            }
            found.push((path.to_owned(), node.clone()));
            Ok(())
        })?;
        // Where directories of the source have led, if through links.
        let mut led: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for (path, node) in found {
            let relative = path.strip_prefix(&item.path).unwrap_or(&path);
            if relative.as_os_str().is_empty() {
                continue;
            }
            if manner.exclude.excludes(&relative.to_string_lossy()) && !node.is_dir() {
                continue;
            }
            if node.is_dir() && self.skips(item, &path, relative, manner)? {
                continue;
            }
            let mut there = target.join(relative);
            if let (Some(above), Some(name)) = (relative.parent(), relative.file_name())
                && let Some(real) = led.get(above)
            {
                there = real.join(name);
            }
            if node.is_dir() {
                let real = self.enter(item, &there)?;
                if real != target.join(relative) {
                    led.insert(relative.to_owned(), real.clone());
                }
                there = real;
            }
            self.one(item, &path, node, &there, manner)?;
        }
        Ok(())
    }

    /// Whether an excluded directory has nothing in it that is not.
    fn skips(
        &self,
        item: &Item<'a>,
        path: &Path,
        relative: &Path,
        manner: &Manner,
    ) -> Result<bool> {
        if !manner.exclude.excludes(&relative.to_string_lossy()) {
            return Ok(false);
        }
        if !manner.exclude.has_exceptions() {
            return Ok(true);
        }
        let mut kept = false;
        crate::source::walk(item.source, path, &mut |below, node| {
            let below = below.strip_prefix(&item.path).unwrap_or(below);
            kept |= !node.is_dir() && !manner.exclude.excludes(&below.to_string_lossy());
            Ok(())
        })?;
        Ok(!kept)
    }

    /// Where the entries of a directory that is to stand at `path` go. A link there is followed
    /// when an archive is unpacked: `lib` of a `usr`-merged system stays what it is.
    fn enter(&self, item: &Item<'a>, path: &Path) -> Result<PathBuf> {
        match self.stat(path)? {
            Some(node) if matches!(node.kind, NodeKind::Symlink(_)) && item.unpacked => {
                let found = self.resolve(path)?;
                match found.node {
                    Some(node) if node.is_dir() => Ok(found.path),
                    _ => Err(over(path)),
                }
            }
            Some(node) if !node.is_dir() => Err(over(path)),
            _ => Ok(path.to_owned()),
        }
    }

    fn one(
        &mut self,
        item: &Item<'a>,
        from: &Path,
        mut node: Node,
        path: &Path,
        manner: &Manner,
    ) -> Result<()> {
        if node.kind == NodeKind::Socket {
            return Ok(());
        }
        check_name(path)?;
        if let Some(parent) = path.parent() {
            self.directories(parent, manner.owner, node.mtime)?;
        }
        match self.stat(path)? {
            Some(there) if there.is_dir() && node.is_dir() => {
                // A directory that is there stays as it is.
                self.repeat(path, there);
                return Ok(());
            }
            Some(there) if there.is_dir() => {
                return Err(Error::invalid(format!(
                    "cannot overwrite directory {} with non-directory",
                    shown(path)
                )));
            }
            _ => {}
        }
        match manner.owner {
            Some(owner) => (node.uid, node.gid) = (owner.uid, owner.gid),
            None if manner.keep_owner || item.unpacked => {}
            None => (node.uid, node.gid) = (0, 0),
        }
        if let Some(mode) = &manner.mode
            && !matches!(node.kind, NodeKind::Symlink(_))
        {
            node.mode = mode.apply(node.mode, node.is_dir());
        }
        let content =
            matches!(node.kind, NodeKind::File(_)).then(|| (item.source, from.to_owned()));
        let emitted = Emitted {
            node,
            content,
            repeated: false,
        };
        if self.entries.len() >= ENTRIES_MAX {
            return Err(too_many());
        }
        self.entries.insert(path.to_owned(), emitted);
        Ok(())
    }

    /// Sees to it that `path`, which has no links, is a directory, and that the layer says so.
    fn directories(&mut self, path: &Path, owner: Option<Owner>, mtime: i64) -> Result<()> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for directory in above {
            if directory.as_os_str().is_empty() {
                continue;
            }
            match self.entries.get(directory) {
                Some(entry) if entry.node.is_dir() => continue,
                Some(_) => return Err(over(directory)),
                None => {}
            }
            check_name(directory)?;
            match self.stat(directory)? {
                Some(node) if node.is_dir() => self.repeat(directory, node),
                Some(_) => return Err(over(directory)),
                None => {
                    let mut node = Node::new_directory(mtime);
                    if let Some(owner) = owner {
                        (node.uid, node.gid) = (owner.uid, owner.gid);
                    }
                    self.opaque.insert(directory.to_owned());
                    self.entries.insert(
                        directory.to_owned(),
                        Emitted {
                            node,
                            content: None,
                            repeated: false,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    fn repeat(&mut self, path: &Path, node: Node) {
        self.entries.entry(path.to_owned()).or_insert(Emitted {
            node,
            content: None,
            repeated: true,
        });
    }

    /// The layer as a tar stream.
    pub(crate) fn stream(self) -> LayerStream<'a> {
        LayerStream::new(self.entries)
    }
}

fn over(path: &Path) -> Error {
    Error::invalid(format!("cannot copy to non-directory: {}", shown(path)))
}

/// In a layer these names delete something; as files they cannot be.
fn check_name(path: &Path) -> Result<()> {
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    if name.starts_with(b".wh.") {
        return Err(Error::invalid(format!(
            "{}: names that begin with .wh. mark deleted files in image layers and cannot be copied",
            shown(path)
        )));
    }
    Ok(())
}
