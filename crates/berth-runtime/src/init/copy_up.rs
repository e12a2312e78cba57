//! `tmpcopyup`: what the image has at the place of a tmpfs is copied into it. Runs in the container,
//! and follows no links: the tree is somebody else's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, mkdirat, mknodat,
    openat, readlinkat, statat, symlinkat,
};

/// Directories below each other.
const DEPTH_MAX: u32 = 128;

/// Copies what is in the directory `from` into the directory `to`, with owners and modes.
pub(super) fn copy(from: OwnedFd, to: impl AsFd) -> io::Result<()> {
    copy_level(&from, to.as_fd(), 0)
}

fn copy_level(from: &OwnedFd, to: impl AsFd, depth: u32) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                mkdirat(&to, name, Mode::RWXU)?;
                let (below, made) = (
                    openat(from, name, flags, Mode::empty())?,
                    openat(&to, name, flags, Mode::empty())?,
                );
                copy_level(&below, &made, depth + 1)?;
                own(&to, name, &stat)?;
                fchmod(&made, mode)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let read = OFlags::RDONLY | OFlags::NONBLOCK | flags;
                let mut source = File::from(openat(from, name, read, Mode::empty())?);
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags;
                let mut target = File::from(openat(&to, name, write, Mode::RUSR)?);
                io::copy(&mut source, &mut target)?;
                own(&to, name, &stat)?;
                fchmod(&target, mode)?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, &to, name)?;
                own(&to, name, &stat)?;
            }
            kind => {
                mknodat(&to, name, kind, mode, stat.st_rdev)?;
                own(&to, name, &stat)?;
            }
        }
    }
    Ok(())
}

fn own(to: impl AsFd, name: &std::ffi::CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(chownat(
        to,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_comes_over_as_it_is() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("a/b")).unwrap();
        std::fs::write(from.path().join("a/b/file"), "text").unwrap();
        let mode = std::fs::Permissions::from_mode(0o4750);
        std::fs::set_permissions(from.path().join("a/b/file"), mode).unwrap();
        symlink("/nowhere", from.path().join("a/link")).unwrap();
        let open = |dir: &std::path::Path| OwnedFd::from(File::open(dir).unwrap());
        copy(open(from.path()), open(to.path())).unwrap();
        let file = to.path().join("a/b/file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
        assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o7777, 0o4750);
        let link = std::fs::read_link(to.path().join("a/link")).unwrap();
        assert_eq!(link.to_str(), Some("/nowhere"));
        // What is there already is not written over.
        assert!(copy(open(from.path()), open(to.path())).is_err());
    }
}
