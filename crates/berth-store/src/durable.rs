//! Files that are there whole or not at all: write aside, sync, rename, sync the directory.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::tree::remove::remove;
use crate::{Error, Result};

/// Makes `path` and its parents, for the owner only.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::io(format_args!("cannot make {}", path.display()), e))
}

/// Puts the directory itself on disk: what was renamed into it stays.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Error::io(format_args!("cannot sync {}", path.display()), e))
}

/// A name that nobody has used: 16 random bytes in hexadecimal.
pub(crate) fn unique_name() -> Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
        Error::new(
            crate::ErrorKind::Internal,
            "the random number generator failed",
        )
    })?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

/// A new file in `dir` under a name of its own, and its path.
pub(crate) fn create_unique(dir: &Path) -> Result<(File, PathBuf)> {
    let path = dir.join(unique_name()?);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::io(format_args!("cannot create {}", path.display()), e))?;
    Ok((file, path))
}

/// Makes `from` visible as `to`, both on one file system, and puts the fact on disk. What `from`
/// holds must have been synced before.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| {
        Error::io(
            format_args!("cannot rename {} to {}", from.display(), to.display()),
            e,
        )
    })?;
    match to.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

/// Removes everything inside `dir`, which stays. What cannot be removed is reported in the log: it
/// is tried again at the next start.
pub(crate) fn empty_dir(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        // Another may be emptying it as well.
        if let Err(error) = remove(&path).or_else(|e| match e {
            rustix::io::Errno::NOENT => Ok(()),
            e => Err(e),
        }) {
            tracing::warn!(path = %path.display(), %error, "cannot remove what is left over");
        }
    }
}
