//! Copying files into and out of a container.

use std::path::Path;
use std::sync::Arc;

use berth_spec::docker::container::PathStat;
use berth_store::tree::{PackOptions, UnpackOptions, pack, unpack};
use rustix::fs::{FileType, Stat};
use tokio::io::AsyncRead;

use super::record::Container;
use super::root::{self, Place};
use crate::crossing::blocking;
use crate::pipe::{blocking_reader, produce};
use crate::{ByteStream, Engine, Error, Result};

/// How [`copy_in`] treats what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyInOptions {
    /// A directory does not take the place of a file, nor a file that of a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Owners are those of the archive, as numbers; else root's.
    pub copy_uid_gid: bool,
}

fn not_found(container: &Container, path: &str) -> Error {
    Error::not_found(format!(
        "Could not find the file {path} in container {}",
        container.name()
    ))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Extracts a tar (compressed or not) below the directory `path` of a container.
pub async fn copy_in(
    engine: &Engine,
    id: &str,
    path: &str,
    options: CopyInOptions,
    tar: impl AsyncRead + Send + Unpin + 'static,
) -> Result<()> {
    let container = engine.0.containers.find(id)?;
    let _key = hold_idle(&container).await;
    let (engine, container, path) = (engine.clone(), container.clone(), path.to_owned());
    blocking(move || {
        let place = root::open(&engine, &container, &path)?;
        let stat = place
            .root
            .stat(&place.path)
            .map_err(|_| not_found(&container, &path))?;
        if kind(&stat) != FileType::Directory {
            return Err(Error::invalid("extraction point is not a directory"));
        }
        if !place.writable {
            return Err(Error::forbidden("container rootfs is marked read-only"));
        }
        let mut tar = blocking_reader(tar);
        let mut plain = berth_store::layer::decompress(&mut tar)?;
        let options = UnpackOptions {
            no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
            keep_directories: true,
            ..UnpackOptions::default()
        };
        unpack(&place.root, &place.path, &mut plain, &options)?;
        Ok(())
    })
    .await
}

/// The key of a container that does not run: its root is mounted for the time of the copy, and
/// nobody starts it meanwhile. One that runs is reached through its own mount.
async fn hold_idle(container: &Arc<Container>) -> Option<tokio::sync::MutexGuard<'_, ()>> {
    if container.task().is_ok() {
        return None;
    }
    Some(container.key.lock().await)
}

/// Packs what is at `path` of a container as a tar, and describes it.
pub async fn copy_out(engine: &Engine, id: &str, path: &str) -> Result<(PathStat, ByteStream)> {
    let container = engine.0.containers.find(id)?;
    let _key = hold_idle(&container).await;
    let (engine, container, path) = (engine.clone(), container.clone(), path.to_owned());
    let (stat, place) = blocking(move || {
        let place = root::open(&engine, &container, &path)?;
        let stat = describe(&place, &path).ok_or_else(|| not_found(&container, &path))?;
        Ok::<_, Error>((stat, place))
    })
    .await?;
    let name = stat.name.clone();
    let stream = produce(move |out| {
        let options = PackOptions {
            name: Some(if name == "/" { "." } else { &name }),
            follow: false,
            ..PackOptions::default()
        };
        pack(&place.root, &place.path, out, &options).map(drop)
    });
    Ok((stat, stream))
}

/// Describes what is at `path` of a container.
pub async fn stat_path(engine: &Engine, id: &str, path: &str) -> Result<PathStat> {
    let container = engine.0.containers.find(id)?;
    let _key = hold_idle(&container).await;
    let (engine, container, path) = (engine.clone(), container.clone(), path.to_owned());
    blocking(move || {
        let place = root::open(&engine, &container, &path)?;
        describe(&place, &path).ok_or_else(|| not_found(&container, &path))
    })
    .await
}

fn describe(place: &Place, asked: &str) -> Option<PathStat> {
    // `dir/.` and `dir/` mean what a link points at.
    let follow = asked.ends_with('/') || asked.ends_with("/.");
    let stat = match follow {
        true => place.root.stat(&place.path),
        false => place.root.stat_nofollow(&place.path),
    }
    .ok()?;
    let link_target = match kind(&stat) {
        FileType::Symlink => {
            let target = place.root.readlink(&place.path).ok()?;
            let whole = match target.is_absolute() {
                true => target,
                false => place.path.parent().unwrap_or(Path::new("/")).join(target),
            };
            whole.display().to_string()
        }
        _ => String::new(),
    };
    let name = place
        .path
        .file_name()
        .or_else(|| Path::new(asked).file_name())
        .map_or("/".to_owned(), |n| n.to_string_lossy().into_owned());
    let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let mtime = jiff::Timestamp::new(stat.st_mtime, nanos).unwrap_or_default();
    Some(PathStat {
        name,
        size: stat.st_size,
        mode: go_mode(&stat),
        mtime: mtime.to_string(),
        link_target,
    })
}

/// Go's `os.FileMode` of a file.
fn go_mode(stat: &Stat) -> u32 {
    let kind = match kind(stat) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => (1 << 26) | (1 << 21),
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 23), (0o2000, 22), (0o1000, 20)]
        .into_iter()
        .filter(|(bit, _)| stat.st_mode & bit != 0)
        .fold(0, |mode, (_, to)| mode | (1 << to));
    kind | special | (stat.st_mode & 0o777)
}
