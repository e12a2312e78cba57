//! What the tests of layers, snapshots and trees stand on: a throw-away store, tars by hand, and a
//! description of a tree of files that two trees can be compared by.
#![allow(dead_code)] // each test uses its part

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use berth_spec::Digest;
use berth_store::{Layer, LayerMounting, Lease, Result, RootMount, Store, StoreOptions};

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub lease: Lease,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let lease = store.lease().unwrap();
        Bench { dir, store, lease }
    }

    pub fn import(&self, mut tar: &[u8]) -> Result<Layer> {
        self.store.layers().import(&self.lease, &mut tar, None)
    }

    pub fn layer(&self, tar: &[u8]) -> Digest {
        self.import(tar).unwrap().diff_id
    }

    pub fn view(&self, layers: &[Digest]) -> RootMount {
        self.store.snapshots().view(layers).unwrap()
    }

    pub fn snapshot(&self, key: &str, layers: &[Digest]) -> RootMount {
        self.store.snapshots().create(key, layers).unwrap();
        self.store.snapshots().mount(key).unwrap()
    }
}

pub fn open(dir: &Path) -> Store {
    Store::open(StoreOptions {
        root: dir.join("root"),
        run_dir: dir.join("run"),
        extractor: berth_store::tree::Extractor::on_thread(),
    })
    .unwrap()
}

/// A descriptor's directory as a path that this process can use.
pub fn at(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", fd.as_fd().as_raw_fd()))
}

pub fn path(mount: &RootMount) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", mount.fd().as_raw_fd()))
}

/// A tar made by hand: names as they are, links to anywhere.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    /// Any entry. The name is put into the header unchecked, or in a GNU long-name entry.
    pub fn raw(mut self, kind: tar::EntryType, name: &str, link: &str, content: &[u8]) -> Tar {
        for (marker, text) in [(b'L', name), (b'K', link)] {
            if text.len() > 100 {
                let mut header = tar::Header::new_gnu();
                header.as_gnu_mut().unwrap().name[..13].copy_from_slice(b"././@LongLink");
                header.set_entry_type(tar::EntryType::new(marker));
                header.set_size(text.len() as u64 + 1);
                header.set_mode(0);
                header.set_cksum();
                let data = [text.as_bytes(), b"\0"].concat();
                self.0.append(&header, &data[..]).unwrap();
            }
        }
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        let cut = |text: &str| text.as_bytes()[..text.len().min(100)].to_vec();
        gnu.name[..name.len().min(100)].copy_from_slice(&cut(name));
        gnu.linkname[..link.len().min(100)].copy_from_slice(&cut(link));
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn file(self, name: &str, content: &str) -> Tar {
        self.raw(tar::EntryType::Regular, name, "", content.as_bytes())
    }

    pub fn dir(self, name: &str) -> Tar {
        self.raw(tar::EntryType::Directory, name, "", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.raw(tar::EntryType::Symlink, name, target, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Tar {
        self.raw(tar::EntryType::Link, name, target, b"")
    }

    /// Changes the header of what comes, for the cases that need it.
    pub fn header(mut self, content: &[u8], change: impl FnOnce(&mut tar::Header)) -> Tar {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    /// A PAX header for the next entry.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Everything that two equal trees have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub rdev: u64,
    pub links: u64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Content of a file (its hash, with its size), target of a link.
    pub content: String,
    /// The first path of the same inode, for files of several names.
    pub same_as: Option<String>,
}

/// A tree, described by nothing but the standard library and the path.
pub fn describe(root: &Path) -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    let mut first = BTreeMap::new();
    visit(root, "", &mut found, &mut first);
    found
}

fn visit(
    path: &Path,
    name: &str,
    found: &mut BTreeMap<String, Node>,
    first: &mut BTreeMap<(u64, u64), String>,
) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let kind = meta.file_type();
    let content = if kind.is_symlink() {
        fs::read_link(path).unwrap().to_string_lossy().into_owned()
    } else if kind.is_file() {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(bytes.len() as u64, meta.len(), "{name}");
        format!("{} {}", bytes.len(), berth_store::hash::sha256(&bytes))
    } else {
        String::new()
    };
    let mut same_as = None;
    if !kind.is_dir() && meta.nlink() > 1 {
        let identity = (meta.dev(), meta.ino());
        match first.get(&identity) {
            Some(first) => same_as = Some(first.clone()),
            None => drop(first.insert(identity, name.to_owned())),
        }
    }
    let device = kind.is_char_device() || kind.is_block_device();
    found.insert(
        name.to_owned(),
        Node {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            rdev: if device { meta.rdev() } else { 0 },
            // How directories count differs from one file system to the next.
            links: if kind.is_dir() { 0 } else { meta.nlink() },
            xattrs: xattrs(path),
            content,
            same_as,
        },
    );
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        for child in names {
            let below = if name.is_empty() {
                child.to_string_lossy().into_owned()
            } else {
                format!("{name}/{}", child.to_string_lossy())
            };
            visit(&path.join(&child), &below, found, first);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0u8; 65536];
    let n = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    names[..n]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0u8; 65536];
            let n = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(n);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}

/// Compares two descriptions with a message that fits a screen.
pub fn assert_same(one: &BTreeMap<String, Node>, two: &BTreeMap<String, Node>) {
    for (name, node) in one {
        match two.get(name) {
            None => panic!("only the first has {name:?}"),
            Some(other) => assert_eq!(node, other, "{name:?}"),
        }
    }
    for name in two.keys() {
        assert!(one.contains_key(name), "only the second has {name:?}");
    }
}

/// What the mount table shows of the directories below `dir`.
pub fn mounted_below(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(dir))
        .map(str::to_owned)
        .collect()
}

/// A store leaves no mount behind, and has none in the table meanwhile if the kernel can do without.
pub fn assert_no_mounts(bench: Bench) {
    let Bench { dir, store, lease } = bench;
    if store.layers().mounting() == LayerMounting::Detached {
        assert_eq!(mounted_below(dir.path()), [""; 0]);
    }
    drop((store, lease));
    assert_eq!(mounted_below(dir.path()), [""; 0]);
}
