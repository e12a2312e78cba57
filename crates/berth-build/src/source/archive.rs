//! An archive as a tree: the build context, or what `ADD` unpacks. Nothing of it is on disk but one
//! file with all contents.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use berth_store::tree::{SpoolLimits, Spooled, SpooledKind, spool};
use rustix::io::Errno;

use super::{Node, NodeKind, Source, path_of, shown};
use crate::ignore::Ignore;
use crate::output::random_id;
use crate::{Error, Result};

/// Bounds of a context and of an archive that is added.
const LIMITS: SpoolLimits = SpoolLimits {
    bytes: 256 << 30,
    entries: super::ENTRIES_MAX,
};

/// A tree read from a tar archive.
#[derive(Debug)]
pub(crate) struct Archive {
    contents: File,
    /// Index by path; a directory's names are next to each other but for those of its subdirectories.
    entries: BTreeMap<PathBuf, Entry>,
    /// Names by directory.
    children: HashMap<PathBuf, Vec<OsString>>,
}

#[derive(Debug, Clone)]
struct Entry {
    node: Node,
    offset: u64,
    digest: Vec<u8>,
}

impl Archive {
    /// Reads an archive, plain or compressed, to its end. Its contents go to a file without a name
    /// in `directory`.
    pub(crate) fn read(source: &mut dyn Read, directory: &Path) -> Result<Archive> {
        let contents = unnamed_file(directory)?;
        let mut archive = Archive {
            contents: contents.try_clone().map_err(internal)?,
            entries: BTreeMap::new(),
            children: HashMap::new(),
        };
        let mut groups = 0;
        spool(source, &contents, LIMITS, &mut |entry| {
            archive
                .insert(entry, &mut groups)
                .map_err(|e| berth_store::Error::invalid(e.to_string()))
        })?;
        archive.finish();
        Ok(archive)
    }

    /// A tree of one file, read from `source`.
    pub(crate) fn of_file(
        name: &str,
        source: &mut dyn Read,
        directory: &Path,
        mode: u32,
        mtime: i64,
    ) -> Result<Archive> {
        let mut contents = unnamed_file(directory)?;
        let mut hasher = berth_store::hash::Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        let mut size = 0u64;
        loop {
            let n = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(internal(e)),
            };
            hasher.update(&buffer[..n]);
            io::Write::write_all(&mut contents, &buffer[..n]).map_err(internal)?;
            size += n as u64;
        }
        let mut archive = Archive {
            contents,
            entries: BTreeMap::new(),
            children: HashMap::new(),
        };
        let node = Node {
            kind: NodeKind::File(size),
            mode,
            ..Node::new_directory(mtime)
        };
        archive.entries.insert(
            PathBuf::from(name),
            Entry {
                node,
                offset: 0,
                digest: hasher.finish().as_str().as_bytes().to_vec(),
            },
        );
        archive.finish();
        Ok(archive)
    }

    fn insert(&mut self, spooled: Spooled, groups: &mut u64) -> Result<()> {
        let path = path_of(&spooled.path);
        let mut entry = Entry {
            node: Node {
                kind: NodeKind::Directory,
                mode: spooled.mode,
                uid: spooled.uid,
                gid: spooled.gid,
                mtime: spooled.mtime.0,
                xattrs: spooled.xattrs,
                link_group: None,
            },
            offset: 0,
            digest: Vec::new(),
        };
        entry.node.kind = match spooled.kind {
            SpooledKind::File {
                offset,
                size,
                digest,
            } => {
                entry.offset = offset;
                entry.digest = digest.as_str().as_bytes().to_vec();
                NodeKind::File(size)
            }
            SpooledKind::Directory => NodeKind::Directory,
            SpooledKind::Symlink(target) => NodeKind::Symlink(path_of(&target)),
            SpooledKind::Char(major, minor) => NodeKind::Char(major, minor),
            SpooledKind::Block(major, minor) => NodeKind::Block(major, minor),
            SpooledKind::Fifo => NodeKind::Fifo,
            SpooledKind::HardLink(target) => {
                let target = path_of(&target);
                let Some(first) = self.entries.get_mut(&target).filter(|e| !e.node.is_dir()) else {
                    return Err(Error::invalid(format!(
                        "archive entry {}: it links to {}, which is not there",
                        shown(&path),
                        shown(&target)
                    )));
                };
                first.node.link_group.get_or_insert_with(|| {
                    *groups += 1;
                    (0, *groups)
                });
                entry = first.clone();
                entry.node.kind.clone()
            }
        };
        if path.as_os_str().is_empty() && !entry.node.is_dir() {
            return Ok(());
        }
        // A later entry takes an earlier one's place, with all below it where that was a directory.
        if !entry.node.is_dir() && self.entries.get(&path).is_some_and(|old| old.node.is_dir()) {
            self.remove_below(&path);
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Directories that have no entry of their own get one, then the names are gathered. What lies
    /// below something that is no directory (a link, say) is not reachable, and goes.
    fn finish(&mut self) {
        let paths: Vec<PathBuf> = self.entries.keys().cloned().collect();
        for path in &paths {
            let mut above = path.as_path();
            while let Some(parent) = above.parent() {
                if self.entries.contains_key(parent) {
                    break;
                }
                let directory = Entry {
                    node: Node::new_directory(0),
                    offset: 0,
                    digest: Vec::new(),
                };
                self.entries.insert(parent.to_owned(), directory);
                above = parent;
            }
        }
        self.entries.entry(PathBuf::new()).or_insert(Entry {
            node: Node::new_directory(0),
            offset: 0,
            digest: Vec::new(),
        });
        let blocked: Vec<PathBuf> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.node.is_dir())
            .map(|(path, _)| path.clone())
            .collect();
        for path in blocked {
            self.remove_below(&path);
        }
        self.index();
    }

    fn index(&mut self) {
        self.children.clear();
        for path in self.entries.keys() {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                let names = self.children.entry(parent.to_owned()).or_default();
                names.push(name.to_owned());
            }
        }
        for names in self.children.values_mut() {
            names.sort();
        }
    }

    fn remove_below(&mut self, path: &Path) {
        let below: Vec<PathBuf> = self
            .entries
            .range(path.to_owned()..)
            .skip(1)
            .take_while(|(other, _)| other.starts_with(path))
            .map(|(other, _)| other.clone())
            .collect();
        for path in below {
            self.entries.remove(&path);
        }
    }

    /// A tree in which there is nothing.
    pub(crate) fn empty(directory: &Path) -> Result<Archive> {
        let mut archive = Archive {
            contents: unnamed_file(directory)?,
            entries: BTreeMap::new(),
            children: HashMap::new(),
        };
        archive.finish();
        Ok(archive)
    }

    /// Takes one file out.
    pub(crate) fn remove_file(&mut self, path: &Path) {
        let is_file = self
            .entries
            .get(path)
            .is_some_and(|entry| !entry.node.is_dir());
        if is_file {
            self.entries.remove(path);
            self.index();
        }
    }

    /// Leaves out what an ignore file says. A directory that is left out stays as long as something
    /// in it stays.
    pub(crate) fn ignore(&mut self, ignore: &Ignore) {
        if ignore.is_empty() {
            return;
        }
        let mut kept: Option<PathBuf> = None;
        let paths: Vec<PathBuf> = self.entries.keys().rev().cloned().collect();
        for path in paths {
            if path.as_os_str().is_empty() {
                continue;
            }
            let needed = kept.as_ref().is_some_and(|kept| kept.starts_with(&path));
            if !needed && ignore.excludes(&path.to_string_lossy()) {
                self.entries.remove(&path);
            } else {
                kept = Some(path);
            }
        }
        self.index();
    }

    /// The same contents seen from a directory of the tree.
    pub(crate) fn below(&self, directory: &Path) -> Result<Archive> {
        let mut inner = Archive {
            contents: self.contents.try_clone().map_err(internal)?,
            entries: BTreeMap::new(),
            children: HashMap::new(),
        };
        for (path, entry) in self.entries.range(directory.to_owned()..) {
            match path.strip_prefix(directory) {
                Ok(rest) => drop(inner.entries.insert(rest.to_owned(), entry.clone())),
                Err(_) => break,
            }
        }
        inner.finish();
        Ok(inner)
    }

    /// A regular file, whole, of at most `max` bytes. Links are followed within the tree.
    pub(crate) fn read_file(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
        let found = super::resolve(&|path| self.stat(path), path, true)?;
        let Some(node) = found.node else {
            return Ok(None);
        };
        match node.kind {
            NodeKind::File(size) if size <= max => {
                let mut bytes = Vec::new();
                self.open(&found.path)?
                    .read_to_end(&mut bytes)
                    .map_err(internal)?;
                Ok(Some(bytes))
            }
            NodeKind::File(_) => Err(Error::invalid(format!(
                "{}: larger than {max} bytes",
                shown(path)
            ))),
            _ => Err(Error::invalid(format!(
                "{}: not a regular file",
                shown(path)
            ))),
        }
    }
}

impl Source for Archive {
    fn stat(&self, path: &Path) -> Result<Option<Node>> {
        Ok(self.entries.get(path).map(|entry| entry.node.clone()))
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>> {
        Ok(self.children.get(path).cloned().unwrap_or_default())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        match self.entries.get(path) {
            Some(Entry {
                node:
                    Node {
                        kind: NodeKind::File(size),
                        ..
                    },
                offset,
                ..
            }) => Ok(Box::new(Piece {
                file: &self.contents,
                at: *offset,
                left: *size,
            })),
            _ => Err(Error::invalid(format!(
                "{}: not a regular file",
                shown(path)
            ))),
        }
    }

    fn content_hash(&self, path: &Path) -> Result<Vec<u8>> {
        let entry = self.entries.get(path);
        Ok(entry.map(|e| e.digest.clone()).unwrap_or_default())
    }
}

/// A part of the file with the contents.
struct Piece<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A file that no directory shows: nothing has to be removed, whatever happens.
pub(crate) fn unnamed_file(directory: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        // Not every file system can.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let path = directory.join(format!("build-{}", random_id()?));
            let opened = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode);
            opened.and_then(|file| rustix::fs::unlink(&path).map(|()| file))
        }
        opened => opened,
    };
    let failed =
        |e: Errno| internal(e.into()).within(&format!("cannot write in {}", directory.display()));
    opened.map(File::from).map_err(failed)
}

fn internal(error: io::Error) -> Error {
    Error::from(berth_store::Error::io(
        "cannot keep the build context",
        error,
    ))
}
