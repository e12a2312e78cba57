//! Mounts of a container that come and go while it runs.
//!
//! A mount is made detached, with its attributes, and attached in the container's mount namespace
//! by handle; the host's mount table never sees it. The record follows, so that the next start has the
//! same mounts.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_spec::docker::HostConfig;
use berth_spec::docker::config::Mount;
use berth_sys::fs_user::with_fs_user;
use berth_sys::mount::{self, Attributes, Propagation};
use berth_sys::root::RootFd;
use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::mount_namespace::{enter, shares_users};
use super::plan::spec::oci_mount;
use super::plan::{MountKind, MountRecord};
use super::record::{Container, Record};
use super::users::{self, Users};
use super::{sources, volumes};
use crate::undo::Undo;
use crate::{Engine, Error, Result};

/// What is to change.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    pub add: Vec<Mount>,
    /// In the notation of `-v`.
    pub add_binds: Vec<String>,
    /// Targets.
    pub remove: Vec<String>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.add_binds.is_empty() && self.remove.is_empty()
    }
}

/// Where the kernel's own file systems are: what is mounted there hides what protects them.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Types of the kernel's file systems (linux/magic.h): proc, sysfs, cgroup and cgroup2.
const PROTECTED: [u64; 4] = [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270];

/// Takes mounts away and adds others, in this order; the first that cannot be ends it, and what was
/// done before it stays done and recorded. Blocks; the container's key is held.
pub(super) fn apply(engine: &Engine, container: &Arc<Container>, changes: Changes) -> Result<()> {
    let pid = container.task().ok().map(|task| task.pid());
    let users = match pid {
        Some(pid) => users::of_running(container, pid)?,
        None => None,
    };
    if pid.is_some_and(|pid| users.is_none() && !shares_users(pid)) {
        return Err(Error::invalid(
            "mounts of a running container whose runtime made it a user namespace cannot be changed: stop it first",
        ));
    }
    let place = pid.map(|pid| (pid, users.as_ref()));
    for target in changes.remove {
        remove(engine, container, pid, &target)?;
    }
    for bind in changes.add_binds {
        let driver = container.read(|r| r.host.volume_driver.clone());
        let record = MountRecord::of_bind(&bind, &driver)?;
        add(engine, container, place, record, |host| {
            host.binds.get_or_insert_default().push(bind);
        })?;
    }
    for asked in changes.add {
        let record = MountRecord::of_mount(&asked)?;
        add(engine, container, place, record, |host| {
            host.mounts.get_or_insert_default().push(asked);
        })?;
    }
    Ok(())
}

/// Adds one; `place` is the process of a container that runs, and its user namespace.
fn add(
    engine: &Engine,
    container: &Arc<Container>,
    place: Option<(i32, Option<&Users>)>,
    record: MountRecord,
    told: impl FnOnce(&mut HostConfig),
) -> Result<()> {
    let target = record.target.clone();
    if container.read(|r| r.mounts.iter().any(|m| m.target == target)) {
        return Err(Error::invalid(format!("Duplicate mount point: {target}")));
    }
    if KERNEL.iter().any(|own| Path::new(&target).starts_with(own)) {
        return Err(Error::invalid(format!(
            "cannot mount over {target} of a container: the kernel's own files are there"
        )));
    }
    let mut undo = Undo::new();
    let mut records = [record];
    if records[0].kind != MountKind::Tmpfs {
        let image = container.read(|r| r.image.parse());
        let image = image.map_err(|_| Error::invalid("the container has no image"))?;
        let image = engine.0.store.images().get(&image)?;
        volumes::make(engine, &container.id, &image, &mut records, &mut undo)?;
    }
    let [record] = records;
    if let Some((pid, users)) = place {
        let tree = detached(engine, &record, users)?;
        let owner = users.map(|users| users.maps.root()).transpose()?;
        attach(pid, tree, PathBuf::from(&target), owner)
            .map_err(|e| Error::io(format_args!("cannot mount at {target}"), e))?;
        let target = PathBuf::from(&target);
        undo.push(move || {
            detach(pid, target).map_err(|e| Error::io("cannot take a mount away again", e))
        });
    }
    let keep = |kept: &Record| engine.0.volumes.keep_with(&container.id, kept);
    container.change_with(keep, |kept| {
        kept.mounts.push(record);
        told(&mut kept.host);
    })?;
    undo.keep();
    // The record holds them now.
    engine.0.volumes.let_go(&container.id)
}

fn remove(
    engine: &Engine,
    container: &Arc<Container>,
    pid: Option<i32>,
    target: &str,
) -> Result<()> {
    let path = super::root::clean(target);
    let target = path.display().to_string();
    if !container.read(|r| r.mounts.iter().any(|m| m.target == target)) {
        return Err(Error::not_found(format!(
            "container {} has no mount at {target}",
            container.name()
        )));
    }
    if let Some(pid) = pid {
        detach(pid, path)
            .map_err(|e| Error::io(format_args!("cannot take away the mount at {target}"), e))?;
    }
    container.change(&engine.0.db, |kept| {
        kept.mounts.retain(|m| m.target != target);
        forget(&mut kept.host, &target);
        if let Some(volumes) = &mut kept.config.volumes {
            volumes.retain(|path, _| super::root::clean(path) != Path::new(&target));
        }
    })
}

/// Takes a target out of what was asked for.
fn forget(host: &mut HostConfig, target: &str) {
    let same = |path: &str| super::root::clean(path) == Path::new(target);
    if let Some(mounts) = &mut host.mounts {
        mounts.retain(|m| !same(&m.target));
    }
    if let Some(binds) = &mut host.binds {
        binds.retain(|bind| !MountRecord::of_bind(bind, "").is_ok_and(|m| m.target == target));
    }
    if let Some(tmpfs) = &mut host.tmpfs {
        tmpfs.retain(|path, _| !same(path));
    }
}

/// The mount that a record asks for, attached nowhere.
fn detached(engine: &Engine, record: &MountRecord, users: Option<&Users>) -> Result<OwnedFd> {
    let failed =
        |e: io::Error| Error::io(format_args!("cannot make the mount {}", record.target), e);
    let map = |tree: &OwnedFd| match users {
        Some(users) => {
            let mapped = Attributes {
                idmap: Some(users.namespace.as_fd()),
                ..Attributes::default()
            };
            mount::set_attributes(tree, false, &mapped).map_err(failed)
        }
        None => Ok(()),
    };
    if record.kind == MountKind::Tmpfs {
        let made = tmpfs(&oci_mount(record, "").options).map_err(failed)?;
        return map(&made).map(|()| made);
    }
    let recursive = !record.non_recursive;
    let tree = match sources::handle(engine, record, users)? {
        sources::Source::Mount(mount) => mount,
        sources::Source::Handle(handle) => {
            mount::clone_handle(&handle, recursive).map_err(failed)?
        }
    };
    if record.kind == MountKind::Volume {
        map(&tree)?;
    }
    let private = Attributes {
        propagation: Some(match record.propagation.trim_start_matches('r') {
            "shared" => Propagation::Shared,
            "slave" => Propagation::Slave,
            _ => Propagation::Private,
        }),
        ..Attributes::default()
    };
    mount::set_attributes(&tree, recursive, &private).map_err(failed)?;
    if record.read_only {
        let read_only = Attributes {
            set: mount::RDONLY,
            ..Attributes::default()
        };
        let below = recursive && !record.read_only_non_recursive;
        mount::set_attributes(&tree, below, &read_only).map_err(failed)?;
    }
    Ok(tree)
}

fn tmpfs(options: &[String]) -> io::Result<OwnedFd> {
    let mut attributes = 0;
    let mut own = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => attributes |= mount::RDONLY,
            "nosuid" => attributes |= mount::NOSUID,
            "nodev" => attributes |= mount::NODEV,
            "noexec" => attributes |= mount::NOEXEC,
            other => own.push(match other.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (other, None),
            }),
        }
    }
    mount::new_mount("tmpfs", &own, attributes)
}

/// Attaches a mount in the container that `pid` is of. Where it has nothing at `target`, a mount point
/// is made: by its root, who is `owner` outside if not user 0.
fn attach(pid: i32, tree: OwnedFd, target: PathBuf, owner: Option<(u32, u32)>) -> io::Result<()> {
    enter(pid, move || match owner {
        // The files below know no other users.
        Some((uid, gid)) => with_fs_user(uid, gid, || attach_inside(&tree, &target))?,
        None => attach_inside(&tree, &target),
    })
}

fn attach_inside(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let stat = rustix::fs::fstat(tree)?;
    let directory = FileType::from_raw_mode(stat.st_mode).is_dir();
    let root = RootFd::open(Path::new("/"))?;
    let place = match root.handle(target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && directory => {
            root.mkdir_all(target, 0o755)?
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = target.parent() {
                root.mkdir_all(parent, 0o755)?;
            }
            root.create_file(target, 0o644)?;
            root.handle(target)?
        }
        place => place?,
    };
    // A link may have led there.
    if PROTECTED.contains(&(rustix::fs::fstatfs(&place)?.f_type as u64)) {
        return Err(io::Error::other("the kernel's own files are there"));
    }
    let found = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
    if found.is_dir() != directory {
        return Err(Errno::NOTDIR.into());
    }
    mount::attach(tree, &place)
}

/// Takes away the mount whose root is at `target` in the container that `pid` is of. No link on the way
/// is followed: somebody inside may have put it there since.
fn detach(pid: i32, target: PathBuf) -> io::Result<()> {
    enter(pid, move || {
        let root = RootFd::open(Path::new("/"))?;
        let place = root.handle_without_links(&target)?;
        let flags = AtFlags::EMPTY_PATH;
        let stat = rustix::fs::statx(place.as_fd(), "", flags, StatxFlags::empty())?;
        if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(io::Error::other("nothing is mounted there any more"));
        }
        if FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode).is_dir() {
            // By the handle: a path could lead elsewhere by now.
            rustix::process::fchdir(&place)?;
            return Ok(unmount(".", UnmountFlags::DETACH)?);
        }
        // A file cannot be stood in; its name is looked up in a directory that is held.
        let name = target.file_name().ok_or(Errno::INVAL)?;
        let above = target.parent().unwrap_or(Path::new("/"));
        rustix::process::fchdir(root.handle_without_links(above)?)?;
        Ok(unmount(
            Path::new(name),
            UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
        )?)
    })
}
