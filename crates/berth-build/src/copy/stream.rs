//! A new layer as a tar stream, made while it is read.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, IntoIter};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::Emitted;
use crate::Result;
use crate::source::{Node, NodeKind, Source};

/// Reads as a tar. The order is that of the paths, so equal layers are equal byte for byte.
pub(crate) struct LayerStream<'a> {
    entries: IntoIter<PathBuf, Emitted<'a>>,
    /// Headers and padding that were not read yet.
    ready: Vec<u8>,
    at: usize,
    content: Option<Content<'a>>,
    /// The first name of each file that has several.
    firsts: HashMap<(usize, (u64, u64)), PathBuf>,
    ended: bool,
}

struct Content<'a> {
    reader: Box<dyn Read + 'a>,
    left: u64,
    padding: usize,
    path: PathBuf,
}

impl<'a> LayerStream<'a> {
    pub(super) fn new(entries: BTreeMap<PathBuf, Emitted<'a>>) -> Self {
        LayerStream {
            entries: entries.into_iter(),
            ready: Vec::new(),
            at: 0,
            content: None,
            firsts: HashMap::new(),
            ended: false,
        }
    }

    /// Puts the next entry's header into `ready` and its content into `content`.
    fn next(&mut self) -> Result<()> {
        self.ready.clear();
        self.at = 0;
        let Some((path, emitted)) = self.entries.next() else {
            self.ended = true;
            self.ready.resize(1024, 0);
            return Ok(());
        };
        let Emitted { node, content, .. } = emitted;
        let mut first = None;
        if let (Some(group), Some((source, _))) = (node.link_group, &content) {
            let key = (std::ptr::from_ref(*source).addr(), group);
            first = self.firsts.get(&key).cloned();
            self.firsts.entry(key).or_insert_with(|| path.clone());
        }
        self.ready = header(&path, &node, first.as_deref())?;
        if let (NodeKind::File(size), None, Some((source, from))) = (&node.kind, first, content) {
            self.content = Some(open(source, &from, *size, path)?);
        }
        Ok(())
    }
}

fn open<'a>(source: &'a dyn Source, from: &Path, size: u64, path: PathBuf) -> Result<Content<'a>> {
    Ok(Content {
        reader: source.open(from)?,
        left: size,
        padding: (size.next_multiple_of(512) - size) as usize,
        path,
    })
}

impl Read for LayerStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.at < self.ready.len() {
                let n = buffer.len().min(self.ready.len() - self.at);
                buffer[..n].copy_from_slice(&self.ready[self.at..self.at + n]);
                self.at += n;
                return Ok(n);
            }
            if let Some(content) = &mut self.content {
                if content.left > 0 {
                    let most = buffer
                        .len()
                        .min(usize::try_from(content.left).unwrap_or(usize::MAX));
                    let n = content.reader.read(&mut buffer[..most])?;
                    if n == 0 && most > 0 {
                        let why = format!(
                            "{}: it became shorter while it was read",
                            content.path.display()
                        );
                        return Err(io::Error::other(why));
                    }
                    content.left -= n as u64;
                    return Ok(n);
                }
                self.ready = vec![0; content.padding];
                self.at = 0;
                self.content = None;
                continue;
            }
            if self.ended {
                return Ok(0);
            }
            self.next().map_err(io::Error::other)?;
        }
    }
}

/// A header with the PAX records it needs. `first` is the earlier name of the same file.
fn header(path: &Path, node: &Node, first: Option<&Path>) -> Result<Vec<u8>> {
    let mut name = path.as_os_str().as_bytes().to_vec();
    let mut entry = EntryBuilder::new_ustar();
    let mut size = 0;
    let kind = match &node.kind {
        NodeKind::File(_) if first.is_some() => {
            entry.link_name(first.map(|p| p.as_os_str().as_bytes()).unwrap_or_default());
            EntryType::Link
        }
        NodeKind::File(length) => {
            size = *length;
            EntryType::Regular
        }
        NodeKind::Directory => {
            name.push(b'/');
            EntryType::Directory
        }
        NodeKind::Symlink(target) => {
            entry.link_name(target.as_os_str().as_bytes());
            EntryType::Symlink
        }
        NodeKind::Char(major, minor) => {
            entry.device(*major, *minor).map_err(invalid)?;
            EntryType::Char
        }
        NodeKind::Block(major, minor) => {
            entry.device(*major, *minor).map_err(invalid)?;
            EntryType::Block
        }
        NodeKind::Fifo | NodeKind::Socket => EntryType::Fifo,
    };
    entry
        .path(&name)
        .entry_type(kind)
        .mode(node.mode)
        .and_then(|entry| entry.uid(node.uid.into()))
        .and_then(|entry| entry.gid(node.gid.into()))
        .and_then(|entry| entry.size(size))
        .and_then(|entry| entry.mtime(node.mtime.try_into().unwrap_or(0)))
        .map_err(invalid)?;
    for (key, value) in &node.xattrs {
        // A name that is no text cannot stand in a PAX record.
        if let Ok(key) = std::str::from_utf8(key) {
            entry.add_pax(&format!("SCHILY.xattr.{key}"), value);
        }
    }
    Ok(entry.finish_bytes())
}

fn invalid(error: impl std::fmt::Display) -> crate::Error {
    crate::Error::invalid(format!("cannot write a layer: {error}"))
}
