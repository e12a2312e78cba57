//! A container's root file system, opened to look into.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_sys::root::RootFd;

use super::plan::MountKind;
use super::record::Container;
use super::users::{self, Users};
use super::volumes::root_of;
use crate::{Engine, Error, Result};

/// A root, and the path in it that is meant.
pub(crate) struct Place {
    pub root: RootFd,
    pub path: PathBuf,
    /// The same path as the container's processes see it.
    pub inside: PathBuf,
    /// The user namespace, if the root is seen through one: owners are then others outside.
    pub users: Option<Users>,
}

/// What a root is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Who asks for this holds the key of a container that does not run.
    Write,
}

/// The root of a container with its mounts, and `path` in it. A running container is seen as its
/// processes see it; of one that does not run, volumes and binds are found by their targets. Blocks.
///
/// # Errors
/// Docker's words where it is to be written to what is read-only.
pub(crate) fn open(
    engine: &Engine,
    container: &Arc<Container>,
    path: &str,
    access: Access,
) -> Result<Place> {
    if path.contains('\0') {
        return Err(Error::invalid("invalid path: contains a NUL byte"));
    }
    let path = clean(path);
    let (mounts, read_only_root) = container.read(|r| (r.mounts.clone(), r.host.readonly_rootfs));
    let mount = mounts
        .iter()
        .filter(|m| path.starts_with(&m.target))
        .max_by_key(|m| m.target.len());
    if access == Access::Write {
        match mount {
            Some(mount) if mount.read_only => {
                return Err(Error::forbidden("mounted volume is marked read-only"));
            }
            None if read_only_root => {
                return Err(Error::forbidden("container rootfs is marked read-only"));
            }
            _ => {}
        }
    }
    let place = |root, below: &Path| Place {
        root,
        path: below.to_owned(),
        inside: path.clone(),
        users: None,
    };
    if let Ok(task) = container.task() {
        let root = Path::new("/proc").join(task.pid().to_string()).join("root");
        let root =
            RootFd::open(&root).map_err(|e| Error::io("cannot open the container's root", e))?;
        let users = users::of_running(container, task.pid())?;
        return Ok(Place {
            users,
            ..place(root, &path)
        });
    }
    let source = mount.and_then(|mount| match mount.kind {
        MountKind::Volume if mount.subpath.is_empty() => {
            Some((mount, engine.0.volumes.data(&mount.name)))
        }
        MountKind::Bind => Some((mount, PathBuf::from(&mount.source))),
        _ => None,
    });
    if let Some((mount, source)) = source
        && source.is_dir()
    {
        let below = path.strip_prefix(&mount.target).unwrap_or(&path);
        let root = RootFd::open(&source)
            .map_err(|e| Error::io(format_args!("cannot open {}", source.display()), e))?;
        return Ok(place(root, below));
    }
    let snapshots = engine.0.store.snapshots();
    let mounted = match access {
        // The container may be started meanwhile.
        Access::Read => snapshots.view_of(&container.id)?,
        Access::Write => snapshots.mount(&container.id)?,
    };
    Ok(place(root_of(mounted.into_fd())?, &path))
}

/// An absolute path without dots.
pub(super) fn clean(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(cleaned.pop()),
            part => cleaned.push(part),
        }
    }
    cleaned
}
