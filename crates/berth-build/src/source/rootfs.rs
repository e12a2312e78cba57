//! A mounted root file system as a tree: another stage, an image.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use berth_spec::Digest;
use berth_store::Store;
use berth_sys::root::RootFd;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::{Node, NodeKind, Source, shown};
use crate::{Error, ErrorKind, Result};

/// Bytes of an extended attribute list and of a value: the kernel's bound.
const XATTR_MAX: usize = 64 << 10;

/// A stack of layers, read-only.
#[derive(Debug)]
pub(crate) struct Rootfs {
    /// `None` where there is no layer: `scratch`.
    root: Option<RootFd>,
}

impl Rootfs {
    /// Mounts `layers`, lowest first, for as long as the value lives.
    pub(crate) fn open(store: &Store, layers: &[Digest]) -> Result<Rootfs> {
        if layers.is_empty() {
            return Ok(Rootfs { root: None });
        }
        let mount = store.snapshots().view(layers)?;
        let root = RootFd::new(mount.into_fd()).map_err(|e| failed(Path::new("/"), e))?;
        Ok(Rootfs { root: Some(root) })
    }

    /// A small file of the tree, such as `/etc/passwd`; `None` where it is not there.
    pub(crate) fn read_file(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let file = match root.open_file(path) {
            Ok(file) => file,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(failed(path, e)),
        };
        let mut bytes = Vec::new();
        file.take(max + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| failed(path, e))?;
        if bytes.len() as u64 > max {
            return Err(Error::invalid(format!(
                "{}: larger than {max} bytes",
                shown(path)
            )));
        }
        Ok(Some(bytes))
    }
}

impl Source for Rootfs {
    fn stat(&self, path: &Path) -> Result<Option<Node>> {
        let Some(root) = &self.root else {
            let root = path.as_os_str().is_empty();
            return Ok(root.then(|| Node::new_directory(0)));
        };
        let stat = match root.stat_nofollow(path) {
            Ok(stat) => stat,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(failed(path, e)),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => NodeKind::File(stat.st_size.max(0) as u64),
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => {
                NodeKind::Symlink(root.readlink(path).map_err(|e| failed(path, e))?)
            }
            FileType::CharacterDevice => {
                let (major, minor) = device(&stat);
                NodeKind::Char(major, minor)
            }
            FileType::BlockDevice => {
                let (major, minor) = device(&stat);
                NodeKind::Block(major, minor)
            }
            FileType::Fifo => NodeKind::Fifo,
            _ => NodeKind::Socket,
        };
        let readable = matches!(kind, NodeKind::File(_) | NodeKind::Directory);
        let xattrs = match readable {
            true => xattrs(root, path).map_err(|e| failed(path, e))?,
            false => Vec::new(),
        };
        Ok(Some(Node {
            // An inode number alone may come again in another layer.
            link_group: (stat.st_nlink > 1 && kind != NodeKind::Directory)
                .then_some((stat.st_dev, stat.st_ino)),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            xattrs,
        }))
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>> {
        let Some(root) = &self.root else {
            return Ok(Vec::new());
        };
        let read = || -> io::Result<Vec<OsString>> {
            let fd = root.open_dir(path)?;
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(fd)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name));
                }
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|e| failed(path, e))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        let root = self.root.as_ref().ok_or_else(|| missing(path))?;
        let file = root.open_file(path).map_err(|e| failed(path, e))?;
        Ok(Box::new(file))
    }

    fn content_hash(&self, path: &Path) -> Result<Vec<u8>> {
        let mut hasher = blake3::Hasher::new();
        let mut file = self.open(path)?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finalize().as_bytes().to_vec()),
                Ok(n) => drop(hasher.update(&buffer[..n])),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(path, e)),
            }
        }
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn device(stat: &Stat) -> (u32, u32) {
    (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    )
}

/// The extended attributes of a file or directory, without overlayfs' own.
fn xattrs(root: &RootFd, path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let fd = root.open_with(path, flags, Mode::empty())?;
    let mut names = vec![0u8; XATTR_MAX];
    let length = match rustix::fs::flistxattr(fd.as_fd(), &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0u8; XATTR_MAX];
        match rustix::fs::fgetxattr(
            fd.as_fd(),
            std::ffi::OsStr::from_bytes(name),
            &mut value[..],
        ) {
            Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    found.sort();
    Ok(found)
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("{}: {error}", shown(path)))
}

fn missing(path: &Path) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("{}: no such file or directory", shown(path)),
    )
}
