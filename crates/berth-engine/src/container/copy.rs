//! Copying files into and out of a container.

use berth_spec::docker::container::PathStat;
use tokio::io::AsyncRead;

use crate::engine::absent;
use crate::{ByteStream, Engine, Result};

/// How [`copy_in`] treats what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyInOptions {
    /// A directory does not take the place of a file, nor a file that of a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Owners are those of the archive, as numbers; else root's.
    pub copy_uid_gid: bool,
}

/// Extracts a tar (compressed or not) below the directory `path` of a container.
pub async fn copy_in(
    engine: &Engine,
    id: &str,
    path: &str,
    options: CopyInOptions,
    tar: impl AsyncRead + Send + Unpin + 'static,
) -> Result<()> {
    let _ = (engine, id, path, options, tar);
    absent("copy")
}

/// Packs what is at `path` of a container as a tar, and describes it.
pub async fn copy_out(engine: &Engine, id: &str, path: &str) -> Result<(PathStat, ByteStream)> {
    let _ = (engine, id, path);
    absent("copy")
}

/// Describes what is at `path` of a container.
pub async fn stat_path(engine: &Engine, id: &str, path: &str) -> Result<PathStat> {
    let _ = (engine, id, path);
    absent("copy")
}
