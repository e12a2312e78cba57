//! Trees that `COPY` and `ADD` read from: the build context, other stages, images.
//!
//! Paths are relative to the tree's root, without `.` and `..`; the empty path is the root. A tree
//! is looked at name by name, and symbolic links are followed here, in memory: a link can lead
//! nowhere but into the same tree.

mod archive;
mod rootfs;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

pub(crate) use archive::{Archive, unnamed_file};
pub(crate) use rootfs::Rootfs;

use crate::ignore::Ignore;
use crate::{Error, Result, glob};

/// Links followed in one look-up, as the kernel has it.
const LINKS_MAX: usize = 40;
/// Entries one `COPY` may touch.
pub(crate) const ENTRIES_MAX: usize = 4_000_000;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    /// `0o7777` at most.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Equal for all names of a file that has several.
    pub(crate) link_group: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// A regular file of that many bytes.
    File(u64),
    Directory,
    /// Where it points, as written.
    Symlink(PathBuf),
    /// Major, minor.
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    /// Left out of copies, as tar has no way to say it.
    Socket,
}

impl Node {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == NodeKind::Directory
    }

    /// A directory that nothing else says how to make.
    pub(crate) fn new_directory(mtime: i64) -> Node {
        Node {
            kind: NodeKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: Vec::new(),
            link_group: None,
        }
    }
}

/// A tree to read from.
pub(crate) trait Source {
    /// What stands at `path`, none of whose directories is a link; a link itself is not followed.
    fn stat(&self, path: &Path) -> Result<Option<Node>>;
    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> Result<Vec<OsString>>;
    /// The content of a regular file.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>>;
    /// A hash of a regular file's content.
    fn content_hash(&self, path: &Path) -> Result<Vec<u8>>;
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Without links. Its last names may not be there.
    pub(crate) path: PathBuf,
    /// What is there, if anything.
    pub(crate) node: Option<Node>,
}

/// Follows `path` from the root of the tree that `stat` shows. `..` stops at the root. A last name
/// that is a link is followed too with `follow`.
///
/// # Errors
/// Too many links, or a file where a directory has to be.
pub(crate) fn resolve(
    stat: &dyn Fn(&Path) -> Result<Option<Node>>,
    path: &Path,
    follow: bool,
) -> Result<Resolved> {
    let mut at = PathBuf::new();
    let mut node = stat(&at)?;
    let mut pending = names(path);
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == ".." {
            at.pop();
            node = stat(&at)?;
            continue;
        }
        if let Some(node) = &node
            && !node.is_dir()
        {
            return Err(not_a_directory(&at));
        }
        let next = at.join(&name);
        if next.as_os_str().len() > 4096 {
            return Err(Error::invalid(format!(
                "{}: file name too long",
                shown(path)
            )));
        }
        let found = match node {
            Some(_) => stat(&next)?,
            None => None,
        };
        match found {
            Some(Node {
                kind: NodeKind::Symlink(target),
                ..
            }) if follow || !pending.is_empty() => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::invalid(format!(
                        "{}: too many levels of symbolic links",
                        shown(path)
                    )));
                }
                if target.is_absolute() {
                    at = PathBuf::new();
                    node = stat(&at)?;
                }
                pending.extend(names(&target));
            }
            found => {
                at = next;
                node = found;
            }
        }
    }
    Ok(Resolved { path: at, node })
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect();
    names.reverse();
    names
}

/// A path as users know it.
pub(crate) fn shown(path: &Path) -> String {
    format!("/{}", path.display().to_string().trim_start_matches('/'))
}

pub(crate) fn not_a_directory(path: &Path) -> Error {
    Error::invalid(format!("{}: not a directory", shown(path)))
}

/// All paths that match a pattern of Go's `filepath.Match`, sorted. Directories that are links are
/// not entered.
pub(crate) fn expand(source: &dyn Source, pattern: &str) -> Result<Vec<PathBuf>> {
    let bad = |_| Error::invalid(format!("syntax error in pattern: {pattern}"));
    let mut found = vec![PathBuf::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in found {
            if !source.stat(&directory)?.is_some_and(|node| node.is_dir()) {
                continue;
            }
            for name in source.list(&directory)? {
                if glob::matches(part, &name.to_string_lossy()).map_err(bad)? {
                    next.push(directory.join(name));
                }
            }
            if next.len() > ENTRIES_MAX {
                return Err(too_many());
            }
        }
        found = next;
    }
    Ok(found)
}

pub(crate) fn too_many() -> Error {
    Error::invalid(format!("more than {ENTRIES_MAX} files in one instruction"))
}

/// Visits `root` and everything below it, directories before what is in them, names sorted.
/// `visit` gets paths of the tree.
pub(crate) fn walk(
    source: &dyn Source,
    root: &Path,
    visit: &mut dyn FnMut(&Path, &Node) -> Result<()>,
) -> Result<()> {
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let Some(node) = source.stat(&path)? else {
            continue;
        };
        visit(&path, &node)?;
        if node.is_dir() {
            let names = source.list(&path)?;
            if pending.len() + names.len() > ENTRIES_MAX {
                return Err(too_many());
            }
            pending.extend(names.iter().rev().map(|name| path.join(name)));
        }
    }
    Ok(())
}

/// A hash of everything at and below `root` that a copy of it would keep, times excepted. Owners
/// count where a copy keeps them. What `exclude` excludes (relative to `root`) does not count.
pub(crate) fn hash(
    source: &dyn Source,
    root: &Path,
    keep_owner: bool,
    exclude: &Ignore,
) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let mut groups = std::collections::HashMap::new();
    walk(source, root, &mut |path, node| {
        let relative = path.strip_prefix(root).unwrap_or(path);
        if exclude.excludes(&relative.to_string_lossy()) {
            return Ok(());
        }
        put(relative.as_os_str().as_bytes());
        put(&node.mode.to_le_bytes());
        if keep_owner {
            put(&node.uid.to_le_bytes());
            put(&node.gid.to_le_bytes());
        }
        for (name, value) in &node.xattrs {
            put(name);
            put(value);
        }
        if let Some(group) = node.link_group {
            let count = groups.len();
            let number: usize = *groups.entry(group).or_insert(count);
            put(&(number as u64).to_le_bytes());
        }
        match &node.kind {
            NodeKind::File(_) => {
                put(b"file");
                put(&source.content_hash(path)?);
            }
            NodeKind::Directory => put(b"directory"),
            NodeKind::Symlink(target) => {
                put(b"link");
                put(target.as_os_str().as_bytes());
            }
            NodeKind::Char(major, minor) => put(format!("char {major} {minor}").as_bytes()),
            NodeKind::Block(major, minor) => put(format!("block {major} {minor}").as_bytes()),
            NodeKind::Fifo => put(b"fifo"),
            NodeKind::Socket => put(b"socket"),
        }
        Ok(())
    })?;
    Ok(*hasher.finalize().as_bytes())
}

/// A path of a tree from bytes of an archive.
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
