//! Looking things up inside a directory tree that somebody else controls.
//!
//! A [`RootFd`] is the root of such a tree: a container's root file system, a volume, a build
//! context. Every look-up goes through `openat2` with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`,
//! so that `..`, absolute paths and symbolic links end inside the tree, whatever is changed in it
//! meanwhile. What is found is a descriptor; later calls act on that and not on the path again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// How often a look-up is tried that the kernel could not make safe because something was renamed.
const TRIES: usize = 256;
/// Symbolic links that [`RootFd::mkdir_all`] follows, as the kernel does.
const LINKS_MAX: usize = 40;

/// The root of a tree in which paths are looked up.
#[derive(Debug)]
pub struct RootFd {
    fd: OwnedFd,
}

impl RootFd {
    /// Takes a directory's descriptor (`O_PATH` will do) or the root of a detached mount.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        if !is_directory(&stat) {
            return Err(Errno::NOTDIR.into());
        }
        Ok(Self { fd })
    }

    /// Opens a directory of the host. The path is ours: links in it are followed as usual.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::openat(CWD, path, flags, Mode::empty())?,
        })
    }

    /// Another descriptor of the same root.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// The root itself.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens `path` with `flags`; links are followed inside the root.
    pub fn open_with(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        openat2(self.fd.as_fd(), path, flags, mode)
    }

    /// A handle (`O_PATH`) of what `path` names, links followed.
    pub fn handle(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH, Mode::empty())
    }

    /// A handle of what `path` names; if that is a link, of the link.
    pub fn handle_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// The same where no part of the path may be a link.
    pub fn handle_without_links(&self, path: &Path) -> io::Result<OwnedFd> {
        let more = ResolveFlags::NO_SYMLINKS;
        look_up(self.fd.as_fd(), path, OFlags::PATH, Mode::empty(), more)
    }

    /// Opens a directory for reading.
    pub fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens a regular file for reading. Anything else is refused, before it can block or act: a
    /// device node that stands for a file is never opened, for its driver would be told.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let handle = self.handle(path)?;
        let found = rustix::fs::fstat(&handle)?;
        match rustix::fs::FileType::from_raw_mode(found.st_mode) {
            rustix::fs::FileType::RegularFile => {}
            rustix::fs::FileType::Directory => return Err(Errno::ISDIR.into()),
            _ => return Err(not_regular()),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // What was looked at, whatever the path names by now.
        let own = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let opened = match rustix::fs::openat(CWD, own, flags, Mode::empty()) {
            // A process without a /proc of its own.
            Err(Errno::NOENT) => self.open_with(path, flags, Mode::empty())?,
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&opened)?;
        if (stat.st_dev, stat.st_ino) != (found.st_dev, found.st_ino) {
            return Err(not_regular());
        }
        Ok(File::from(opened))
    }

    /// Makes a regular file that must not be there yet; the directory above it must.
    pub fn create_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(
            &parent,
            name,
            flags,
            Mode::from_raw_mode(mode),
        )?))
    }

    /// What `path` names, links followed.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.handle(path)?)?)
    }

    /// What `path` names; if that is a link, the link.
    pub fn stat_nofollow(&self, path: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.handle_nofollow(path)?)?)
    }

    /// Where the link at `path` points, as it is written there.
    pub fn readlink(&self, path: &Path) -> io::Result<PathBuf> {
        let handle = self.handle_nofollow(path)?;
        let target = rustix::fs::readlinkat(&handle, "", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// A handle of the directory that `path` stands in (links followed), and its last name. For the
    /// calls that make, rename and remove names.
    ///
    /// # Errors
    /// `EINVAL` where `path` has no last name: the root, or a path that ends in `..`.
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let above = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((
            self.open_with(above, flags, Mode::empty())?,
            name.to_owned(),
        ))
    }

    /// Makes the directory `path` and those above it where they are missing, and answers a handle of
    /// it. Links are followed inside the root, also those that point at nothing yet.
    pub fn mkdir_all(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let mut at = self.fd.try_clone()?;
        let mut trail: Vec<OsString> = Vec::new();
        let mut pending = names(path);
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == OsStr::new("..") {
                trail.pop();
                at = self.walk(&trail)?;
                continue;
            }
            match rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let next = openat2(at.as_fd(), Path::new(&name), flags, Mode::empty())?;
            match rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) {
                rustix::fs::FileType::Directory => {
                    trail.push(name);
                    at = next;
                }
                rustix::fs::FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&next, "", Vec::new())?;
                    let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
                    if target.is_absolute() {
                        trail.clear();
                        at = self.fd.try_clone()?;
                    }
                    pending.extend(names(&target));
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(at)
    }

    /// The directory at the end of `trail`, none of whose names is a link.
    fn walk(&self, trail: &[OsString]) -> io::Result<OwnedFd> {
        let path: PathBuf = trail.iter().collect();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        self.open_with(&path, flags, Mode::empty())
    }
}

impl AsFd for RootFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The names of a path, the last one first. Roots and dots mean nothing here.
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

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn is_directory(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
}

fn openat2(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    look_up(root, path, flags, mode, ResolveFlags::empty())
}

fn look_up(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    more: ResolveFlags,
) -> io::Result<OwnedFd> {
    // An empty path is the root itself; the kernel wants a dot for it.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // Something was renamed during the look-up.
            Err(Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// What `path` names below `directory`; a link is not followed.
pub fn stat_at(directory: impl AsFd, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(
        directory,
        name,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, RootFd) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), "inside").unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("/a/b", root.join("absolute")).unwrap();
        symlink("../../../../a", root.join("climbing")).unwrap();
        symlink("../secret", root.join("escape")).unwrap();
        symlink("/new/dir", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let fd = RootFd::open(&root).unwrap();
        (dir, fd)
    }

    fn content(root: &RootFd, path: &str) -> io::Result<String> {
        let mut text = String::new();
        root.open_file(Path::new(path))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn links_end_inside() {
        let (_dir, root) = tree();
        for path in [
            "a/b/file",
            "/a/b/file",
            "absolute/file",
            "climbing/b/file",
            "../../a/b/file",
        ] {
            assert_eq!(content(&root, path).unwrap(), "inside", "{path}");
        }
        for path in [
            "escape",
            "../secret",
            "magic/etc/passwd",
            "loop",
            "a",
            "missing",
        ] {
            assert!(content(&root, path).is_err(), "{path}");
        }
        assert_eq!(
            root.readlink(Path::new("escape")).unwrap(),
            Path::new("../secret")
        );
        assert!(root.handle_without_links(Path::new("a/b/file")).is_ok());
        assert!(
            root.handle_without_links(Path::new("absolute/file"))
                .is_err()
        );
        assert!(root.stat(Path::new("escape")).is_err());
        assert!(root.stat_nofollow(Path::new("escape")).is_ok());
        assert!(root.stat(Path::new("")).is_ok());
    }

    #[test]
    fn directories_are_made_inside() {
        let (dir, root) = tree();
        root.mkdir_all(Path::new("/a/b/c/../d"), 0o755).unwrap();
        assert!(dir.path().join("root/a/b/d").is_dir());
        root.mkdir_all(Path::new("dangling/x"), 0o755).unwrap();
        assert!(dir.path().join("root/new/dir/x").is_dir());
        root.mkdir_all(Path::new("../../out"), 0o755).unwrap();
        assert!(dir.path().join("root/out").is_dir());
        assert!(!dir.path().join("out").exists());
        root.mkdir_all(Path::new("climbing/e"), 0o755).unwrap();
        assert!(dir.path().join("root/a/e").is_dir());
        assert!(root.mkdir_all(Path::new("loop/x"), 0o755).is_err());
        assert!(root.mkdir_all(Path::new("a/b/file/x"), 0o755).is_err());
    }

    /// A driver is told of each opening: a watchdog's counts down from then on.
    #[test]
    fn devices_and_fifos_are_not_opened() {
        let (dir, root) = tree();
        // A number that no driver has: opening it says ENXIO.
        let device = rustix::fs::makedev(511, 9);
        for (name, kind, device) in [
            ("device", rustix::fs::FileType::CharacterDevice, device),
            ("fifo", rustix::fs::FileType::Fifo, 0),
        ] {
            let path = dir.path().join("root").join(name);
            let mode = Mode::from_raw_mode(0o644);
            if rustix::fs::mknodat(CWD, &path, kind, mode, device) == Err(Errno::PERM) {
                continue;
            }
            let error = root.open_file(Path::new(name)).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{name}");
        }
    }

    #[test]
    fn files_are_made_once() {
        let (dir, root) = tree();
        root.create_file(Path::new("absolute/new"), 0o600).unwrap();
        assert!(dir.path().join("root/a/b/new").is_file());
        assert!(root.create_file(Path::new("absolute/new"), 0o600).is_err());
        // The link itself is in the way; it is not written through.
        assert!(root.create_file(Path::new("escape"), 0o600).is_err());
        assert!(root.create_file(Path::new("/"), 0o600).is_err());
    }
}
