//! Copying files into and out of a container.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use berth_spec::docker::container::PathStat;
use berth_store::tree::{PackOptions, UnpackOptions, Verdict, pack};
use rustix::fs::{FileType, Stat};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::plan::user::Accounts;
use super::record::Container;
use super::root::{self, Access, Place};
use crate::crossing::blocking;
use crate::pipe::{blocking_reader, produce};
use crate::{ByteStream, Engine, Error, Result};

/// How [`copy_in`] treats what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyInOptions {
    /// A directory does not take the place of a file, nor a file that of a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user (`--user`, or that of its image). Else, and where it
    /// has none, owners are those of the archive, as numbers.
    pub copy_uid_gid: bool,
}

/// Bytes of an archive that are read and dropped after a failure.
const DRAINED: u64 = 32 << 20;

/// Where a running container sees the kernel and not files: never packed with what is above.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

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
    let container = match engine.0.containers.find(id) {
        Ok(container) => container,
        Err(error) => {
            let _ = tokio::io::copy(&mut tar.take(DRAINED), &mut tokio::io::sink()).await;
            return Err(error);
        }
    };
    let _key = hold_idle(&container).await;
    {
        let (engine, container, path) = (engine.clone(), container.clone(), path.to_owned());
        blocking(move || extract(&engine, &container, &path, options, tar)).await?;
    }
    super::tell(engine, &container, "extract-to-dir", BTreeMap::new());
    Ok(())
}

fn extract(
    engine: &Engine,
    container: &Arc<Container>,
    path: &str,
    options: CopyInOptions,
    tar: impl AsyncRead + Send + Unpin + 'static,
) -> Result<()> {
    let mut tar = blocking_reader(tar);
    let extracted = extract_from(engine, container, path, options, &mut tar);
    if extracted.is_err() {
        // A client that is still sending would not see the answer.
        let _ = std::io::copy(&mut tar.take(DRAINED), &mut std::io::sink());
    }
    extracted
}

fn extract_from(
    engine: &Engine,
    container: &Arc<Container>,
    path: &str,
    options: CopyInOptions,
    mut tar: &mut dyn Read,
) -> Result<()> {
    let place = root::open(engine, container, path, Access::Write)?;
    let stat = place
        .root
        .stat(&place.path)
        .map_err(|_| not_found(container, path))?;
    if kind(&stat) != FileType::Directory {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    let mut plain = berth_store::layer::decompress(&mut tar)?;
    let options = UnpackOptions {
        no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
        keep_directories: true,
        owner: match options.copy_uid_gid {
            true => own_user(engine, container)?,
            false => None,
        },
        ..UnpackOptions::default()
    };
    let mut extractor = engine.0.store.extractor().clone();
    if let Some(users) = place.users {
        extractor = extractor.inside(users.namespace);
    }
    extractor.unpack(&place.root, &place.path, &mut plain, &options)?;
    Ok(())
}

/// The container's user and group, if it has one of its own.
fn own_user(engine: &Engine, container: &Arc<Container>) -> Result<Option<(u32, u32)>> {
    let user = container.read(|r| r.config.user.clone());
    if user.is_empty() {
        return Ok(None);
    }
    let place = root::open(engine, container, "/", Access::Read)?;
    let user = Accounts::read(&place.root)?.resolve(&user, &[])?;
    Ok(Some((user.uid, user.gid)))
}

/// The key of a container that does not run: its root is mounted for the time of the copy, and
/// nobody starts it meanwhile. One that runs is reached through its own mount.
async fn hold_idle(container: &Arc<Container>) -> Option<tokio::sync::MutexGuard<'_, ()>> {
    if container.task().is_ok() {
        return None;
    }
    Some(container.key.lock().await)
}

/// Packs what is at `path` of a container as a tar, and describes it. The archive holds it under its
/// own name; what `dir/.` names stands under `.`.
pub async fn copy_out(engine: &Engine, id: &str, path: &str) -> Result<(PathStat, ByteStream)> {
    let container = engine.0.containers.find(id)?;
    let (stat, place) = look(engine, &container, path).await?;
    super::tell(engine, &container, "archive-path", BTreeMap::new());
    let name = match path.ends_with("/.") || path == "." || stat.name == "/" {
        true => ".".to_owned(),
        false => stat.name.clone(),
    };
    let follow = follows(path);
    let stream = produce(move |out| {
        let filter = |below: &Path, _| outside_kernel(&place.inside, below);
        let users = place.users.as_ref();
        let rename = |uid, gid| users.map_or((uid, gid), |users| users.maps.inside(uid, gid));
        let options = PackOptions {
            name: Some(&name),
            follow,
            filter: Some(&filter),
            rename: place.users.as_ref().map(|_| &rename as _),
            ..PackOptions::default()
        };
        pack(&place.root, &place.path, out, &options).map(drop)
    });
    Ok((stat, stream))
}

/// Leaves out what is in the file systems of the kernel, unless the copy begins in one.
fn outside_kernel(start: &Path, below: &Path) -> Verdict {
    let whole = start.join(below);
    let hidden = KERNEL.iter().map(Path::new).any(|kernel| {
        kernel.starts_with(start) && kernel != start && whole != kernel && whole.starts_with(kernel)
    });
    if hidden {
        Verdict::Prune
    } else {
        Verdict::Take
    }
}

/// Describes what is at `path` of a container.
pub async fn stat_path(engine: &Engine, id: &str, path: &str) -> Result<PathStat> {
    let container = engine.0.containers.find(id)?;
    Ok(look(engine, &container, path).await?.0)
}

async fn look(
    engine: &Engine,
    container: &Arc<Container>,
    path: &str,
) -> Result<(PathStat, Place)> {
    let (engine, container, path) = (engine.clone(), container.clone(), path.to_owned());
    blocking(move || {
        let place = root::open(&engine, &container, &path, Access::Read)?;
        let stat = describe(&place, &path).ok_or_else(|| not_found(&container, &path))?;
        Ok::<_, Error>((stat, place))
    })
    .await
}

/// Whether a link at the end of a path is followed: `dir/.` and `dir/` mean what it points at.
fn follows(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

fn describe(place: &Place, asked: &str) -> Option<PathStat> {
    let stat = match follows(asked) {
        true => place.root.stat(&place.path),
        false => place.root.stat_nofollow(&place.path),
    }
    .ok()?;
    if follows(asked) && kind(&stat) != FileType::Directory {
        return None;
    }
    let link_target = match kind(&stat) {
        FileType::Symlink => {
            let target = place.root.readlink(&place.path).ok()?;
            let whole = match target.is_absolute() {
                true => target,
                false => place.inside.parent().unwrap_or(Path::new("/")).join(target),
            };
            whole.display().to_string()
        }
        _ => String::new(),
    };
    let name = place
        .inside
        .file_name()
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

#[cfg(test)]
mod tests {
    use berth_sys::root::RootFd;

    use super::*;

    #[test]
    fn files_are_described_as_go_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("sub/dir")).unwrap();
        std::fs::write(root.join("sub/file"), "12345").unwrap();
        std::os::unix::fs::symlink("dir", root.join("sub/link")).unwrap();
        std::os::unix::fs::symlink("/sub/file", root.join("absolute")).unwrap();
        let stat = |asked: &str| {
            let inside = root::clean(asked);
            let place = Place {
                root: RootFd::open(root).unwrap(),
                path: inside.clone(),
                inside,
                users: None,
            };
            describe(&place, asked)
        };
        for (asked, name, kind, link) in [
            ("/", "/", 1_u32 << 31, ""),
            ("sub", "sub", 1 << 31, ""),
            ("/sub/../sub/dir/.", "dir", 1 << 31, ""),
            ("/sub/file", "file", 0, ""),
            ("/sub/link", "link", 1 << 27, "/sub/dir"),
            ("/sub/link/", "link", 1 << 31, ""),
            ("/sub/link/.", "link", 1 << 31, ""),
            ("/absolute", "absolute", 1 << 27, "/sub/file"),
        ] {
            let found = stat(asked).unwrap();
            assert_eq!(found.name, name, "{asked}");
            assert_eq!(found.mode & !0o777, kind, "{asked}");
            assert_eq!(found.link_target, link, "{asked}");
        }
        assert_eq!(stat("/sub/file").unwrap().size, 5);
        for absent in ["/none", "/sub/file/", "/sub/none/."] {
            assert!(stat(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn the_kernels_file_systems_are_left_out() {
        let verdict = |start: &str, below: &str| outside_kernel(Path::new(start), Path::new(below));
        for (start, below, expected) in [
            ("/", "etc/passwd", Verdict::Take),
            ("/", "proc", Verdict::Take),
            ("/", "proc/1", Verdict::Prune),
            ("/", "process", Verdict::Take),
            ("/", "srv/sys/x", Verdict::Take),
            ("/dev", "null", Verdict::Take),
            ("/proc/sys", "net", Verdict::Take),
        ] {
            assert_eq!(verdict(start, below), expected, "{start} {below}");
        }
    }

    #[test]
    fn special_bits_have_places_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (mode, expected) in [
            (0o4755, 0o755 | 1 << 23),
            (0o2711, 0o711 | 1 << 22),
            (0o1644, 0o644 | 1 << 20),
        ] {
            rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
            assert_eq!(
                go_mode(&rustix::fs::stat(&file).unwrap()),
                expected,
                "{mode:o}"
            );
        }
    }
}
