//! Files and directories of the storage, for the owner only.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::server::fault::{Fault, Reply};

/// Options for a file that others cannot read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Makes `path` and its parents.
pub(crate) fn make_dir(path: &Path) -> Reply<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Fault::io(format_args!("cannot make {}", path.display()), e))
}

/// Makes `path`, whose parent is there, so that it stays.
pub(crate) fn make_dir_durably(path: &Path) -> Reply<()> {
    if path.is_dir() {
        return Ok(());
    }
    make_dir(path)?;
    match path.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Puts the directory itself on disk: what was renamed into it stays.
pub(crate) fn sync_dir(path: &Path) -> Reply<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Fault::io(format_args!("cannot sync {}", path.display()), e))
}

/// 16 random bytes in hexadecimal.
pub(crate) fn unique_name() -> Reply<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|e| Fault::internal("the random number generator failed", e))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

/// The paths in `dir`, in no order.
pub(crate) fn entries(dir: &Path) -> Reply<Vec<PathBuf>> {
    let failed = |e| Fault::io(format_args!("cannot list {}", dir.display()), e);
    fs::read_dir(dir)
        .map_err(failed)?
        .map(|entry| entry.map(|e| e.path()).map_err(failed))
        .collect()
}
