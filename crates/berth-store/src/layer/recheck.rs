//! Whether what is on disk of a layer is still what was written.
//!
//! The tar must have the layer's digest. All else follows from the tar: the index (or the directory)
//! and the side file are made once more and compared byte by byte.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use berth_spec::Digest;
use berth_sys::root::RootFd;
use rustix::fs::{FileType, Stat};

use super::directory::content_at;
use super::entries::Limits;
use super::import::{Side, Staging, index};
use super::{LayerForm, Layers};
use crate::erofs::tree::{Data, Kind, Node, Tree};
use crate::erofs::write::{Devices, write};
use crate::hash::Hasher;
use crate::tree::walk::names_in;
use crate::{Error, Result};

const CHUNK: usize = 256 << 10;

/// See [`Layers::recheck`].
pub(super) fn recheck(layers: &Layers, diff_id: &Digest) -> Result<Option<String>> {
    let Some(layer) = layers.get(diff_id)? else {
        return Ok(Some("it is not here".to_owned()));
    };
    let dir = layers.path(diff_id);
    let checked = check_tar(&dir, diff_id)
        .and_then(|tar| check_derived(layers, &dir, diff_id, layer.form, &tar));
    match checked {
        Ok(()) => Ok(None),
        Err(Wrong::Damaged(why)) => Ok(Some(why)),
        Err(Wrong::Failed(error)) => Err(error),
    }
}

/// What looking gives, or why it ended.
type Looked<T> = std::result::Result<T, Wrong>;

enum Wrong {
    /// The layer is not what it was.
    Damaged(String),
    /// Looking failed.
    Failed(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Wrong::Failed(error)
    }
}

fn damaged(what: impl std::fmt::Display, error: io::Error) -> Wrong {
    match error.kind() {
        io::ErrorKind::NotFound => Wrong::Damaged(format!("{what} is missing")),
        _ => Wrong::Damaged(format!("{what} cannot be read: {error}")),
    }
}

/// The tar, once its bytes have been compared with the digest.
fn check_tar(dir: &Path, diff_id: &Digest) -> Looked<File> {
    let failed = |e| damaged("layer.tar", e);
    let mut tar = File::open(dir.join("layer.tar")).map_err(failed)?;
    let mut hasher = Hasher::with(diff_id.algorithm());
    let mut chunk = vec![0; CHUNK];
    loop {
        match tar.read(&mut chunk).map_err(failed)? {
            0 => break,
            n => hasher.update(&chunk[..n]),
        }
    }
    let found = hasher.finish();
    if found != *diff_id {
        let why = format!("layer.tar is damaged: its bytes have the digest {found}");
        return Err(Wrong::Damaged(why));
    }
    io::Seek::rewind(&mut tar).map_err(failed)?;
    Ok(tar)
}

fn check_derived(
    layers: &Layers,
    dir: &Path,
    diff_id: &Digest,
    form: LayerForm,
    tar: &File,
) -> Looked<()> {
    let size = tar.metadata().map_err(|e| damaged("layer.tar", e))?.len();
    let staging = Staging::new(layers)?;
    let again = staging.dir.join("layer.data");
    let mut side = Side::at(again.clone());
    let (mut tree, stacking) =
        index(tar, &mut side, Limits::default(), layers.rooms().enter(0)?)?.finish();
    side.take_torn(&mut tree, tar, size)?;
    let side = side.finish()?;
    if side.is_some() {
        compare_files(&again, &dir.join("layer.data"))?;
    }
    match form {
        LayerForm::Erofs => {
            let devices = Devices {
                tag: diff_id.hex(),
                tar: size,
                side,
            };
            check_index(&dir.join("layer.erofs"), &tree, &devices)?;
        }
        LayerForm::Directory => {
            let side = side.map(|_| File::open(&again)).transpose();
            let side = side.map_err(|e| damaged("layer.data", e))?;
            check_directory(&dir.join("fs"), &tree, tar, side.as_ref())?;
        }
    }
    if layers
        .record(diff_id)
        .is_ok_and(|(_, recorded)| recorded != stacking)
    {
        let why = "its record does not say how it is stacked".to_owned();
        return Err(Wrong::Damaged(why));
    }
    Ok(())
}

fn check_index(path: &Path, tree: &Tree, devices: &Devices<'_>) -> Looked<()> {
    let failed = |e| damaged("layer.erofs", e);
    let mut comparing = Comparing {
        name: "layer.erofs",
        file: File::open(path).map_err(failed)?,
        at: 0,
        buffer: vec![0; CHUNK],
    };
    let written = write(tree, devices, &mut comparing);
    written
        .and_then(|_| comparing.end())
        .map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => Wrong::Damaged(e.to_string()),
            _ => failed(e),
        })
}

fn compare_files(expected: &Path, found: &Path) -> Looked<()> {
    let name = "layer.data";
    let compare = || {
        let mut comparing = Comparing {
            name,
            file: File::open(found)?,
            at: 0,
            buffer: vec![0; CHUNK],
        };
        io::copy(&mut File::open(expected)?, &mut comparing)?;
        comparing.end()
    };
    compare().map_err(|e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData => Wrong::Damaged(e.to_string()),
        _ => damaged(name, e),
    })
}

/// Takes the bytes that a file should have.
struct Comparing {
    name: &'static str,
    file: File,
    at: u64,
    buffer: Vec<u8>,
}

impl Comparing {
    fn differs(&self, at: u64) -> io::Error {
        let text = format!("{} is damaged at byte {at}", self.name);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// All bytes have come: the file must end here.
    fn end(mut self) -> io::Result<()> {
        match self.file.read(&mut self.buffer[..1])? {
            0 => Ok(()),
            _ => Err(self.differs(self.at)),
        }
    }
}

impl Write for Comparing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let want = bytes.len().min(self.buffer.len());
        let n = self.file.read(&mut self.buffer[..want])?;
        if n == 0 && want > 0 {
            return Err(self.differs(self.at));
        }
        let pairs = bytes.iter().zip(&self.buffer[..n]);
        if let Some(at) = pairs.into_iter().position(|(a, b)| a != b) {
            return Err(self.differs(self.at + at as u64));
        }
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_directory(path: &Path, tree: &Tree, tar: &File, side: Option<&File>) -> Looked<()> {
    let root = RootFd::open(path).map_err(|e| damaged("fs/", e))?;
    let mut paths = tree.paths();
    while let Some((id, name)) = paths.next() {
        let shown = format!("fs/{}", String::from_utf8_lossy(name));
        let below = Path::new(std::ffi::OsStr::from_bytes(name));
        let node = tree.node(id);
        let handle = root
            .handle_nofollow(below)
            .map_err(|e| damaged(&shown, e))?;
        let stat = rustix::fs::fstat(&handle).map_err(|e| damaged(&shown, e.into()))?;
        let same = looks_like(&stat, node);
        let same = same
            && match &node.kind {
                Kind::File { size, data } => {
                    same_content(&root, below, (tar, side), (*data, *size))
                        .map_err(|e| damaged(&shown, e))?
                }
                Kind::Symlink(target) => root
                    .readlink(below)
                    .is_ok_and(|found| found.as_os_str().as_bytes() == &target[..]),
                _ => true,
            };
        if !same {
            return Err(Wrong::Damaged(format!("{shown} is damaged")));
        }
        if node.is_directory() {
            let found = names_in(&handle).map_err(|e| damaged(&shown, e.into()))?;
            if found.len() != tree.entries(id).count() {
                return Err(Wrong::Damaged(format!("{shown} has other names in it")));
            }
        }
    }
    Ok(())
}

fn looks_like(stat: &Stat, node: &Node) -> bool {
    let device = |major: u32, minor: u32| stat.st_rdev == rustix::fs::makedev(major, minor);
    let of_kind = match (&node.kind, FileType::from_raw_mode(stat.st_mode)) {
        (Kind::Directory(_), FileType::Directory)
        | (Kind::Symlink(_), FileType::Symlink)
        | (Kind::Fifo, FileType::Fifo) => true,
        (Kind::File { size, .. }, FileType::RegularFile) => stat.st_size as u64 == *size,
        (Kind::Char { major, minor }, FileType::CharacterDevice)
        | (Kind::Block { major, minor }, FileType::BlockDevice) => device(*major, *minor),
        _ => false,
    };
    let attributes = &node.attributes;
    let mode = matches!(node.kind, Kind::Symlink(_))
        || stat.st_mode & 0o7777 == u32::from(attributes.mode);
    of_kind && mode && (stat.st_uid, stat.st_gid) == (attributes.uid, attributes.gid)
}

fn same_content(
    root: &RootFd,
    path: &Path,
    (tar, side): (&File, Option<&File>),
    (data, size): (Data, u64),
) -> io::Result<bool> {
    let mut comparing = Comparing {
        name: "",
        file: root.open_file(path)?,
        at: 0,
        buffer: vec![0; CHUNK],
    };
    let mut expected = content_at(tar, side, data)?.take(size);
    let compared = io::copy(&mut expected, &mut comparing).and_then(|_| comparing.end());
    match compared {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Ok(false),
        other => other.map(|()| true),
    }
}
