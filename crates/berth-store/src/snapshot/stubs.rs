//! Mount points that were made in a root so that something could be mounted there.
//!
//! A container needs `/proc`, `/etc/hosts` and the like to mount on. Where the image has none, they
//! are made in the writable layer: empty files and directories that nobody wrote. Docker keeps them in
//! a layer of their own, so that neither `diff` nor `commit` knows them. Here they are recognized:
//! under one of these names, not in the layers, and empty.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::below::{Below, differs, is_directory};
use super::commit::is_opaque;
use crate::tree::walk::{Found, names_in};

/// What every container has something mounted on, or made for it.
const STUBS: [&[u8]; 15] = [
    b".dockerenv",
    b"dev",
    b"dev/console",
    b"dev/mqueue",
    b"dev/pts",
    b"dev/shm",
    b"etc",
    b"etc/hostname",
    b"etc/hosts",
    b"etc/mtab",
    b"etc/resolv.conf",
    b"proc",
    b"run",
    b"run/secrets",
    b"sys",
];

/// Whether `found`, in an upper directory, is there only as or for a mount point.
pub(super) fn is_stub(found: &Found, below: &Below<'_>) -> Result<bool, Errno> {
    if !STUBS.contains(&&found.path[..]) || found.is_whiteout() {
        return Ok(false);
    }
    match below.stat(&found.path)? {
        None => empty(found.handle(), &found.path, below),
        // A directory of the image that came up because of what was made in it.
        Some(old) => Ok(found.is_directory()
            && is_directory(&old)
            && !differs(&found.stat, &old)
            && !is_opaque(found)?
            && only_stubs(found.handle(), &found.path, below)?),
    }
}

/// An empty file, or a directory of nothing but stubs.
fn empty(handle: &OwnedFd, path: &[u8], below: &Below<'_>) -> Result<bool, Errno> {
    let stat = statat(handle, "", AtFlags::EMPTY_PATH)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size == 0 && stat.st_nlink == 1),
        FileType::Directory => only_stubs(handle, path, below),
        // Docker makes a link of this one.
        FileType::Symlink => Ok(path == b"etc/mtab"),
        _ => Ok(false),
    }
}

fn only_stubs(dir: &OwnedFd, path: &[u8], below: &Below<'_>) -> Result<bool, Errno> {
    for name in names_in(dir)? {
        let path = [path, b"/", &name].concat();
        if !STUBS.contains(&&path[..]) || below.stat(&path)?.is_some() {
            return Ok(false);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(dir, OsStr::from_bytes(&name), flags, Mode::empty())?;
        if !empty(&handle, &path, below)? {
            return Ok(false);
        }
    }
    Ok(true)
}
