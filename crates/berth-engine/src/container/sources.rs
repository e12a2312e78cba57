//! Where a container's mounts come from: paths and handles of the host.

use std::os::fd::OwnedFd;
use std::path::Path;

use berth_spec::oci::runtime::{Mount, Spec};
use berth_store::Image;
use berth_sys::mount;
use berth_sys::root::RootFd;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::launch::running;
use super::mount_namespace::enter;
use super::plan::spec::oci_mount;
use super::plan::{JoinedMode, MountKind, MountRecord};
use super::record::Record;
use super::users::Users;
use super::volumes::root_of;
use crate::{Engine, Error, Result};

/// Sources that are handles and not paths. A mount names its handle until its place in the document
/// is known.
#[derive(Debug, Default)]
pub(crate) struct Handles(Vec<OwnedFd>);

impl Handles {
    /// Takes a handle; answers the source that stands for it.
    pub fn add(&mut self, handle: OwnedFd) -> String {
        self.0.push(handle);
        // No path begins so: sources are absolute.
        format!("handle:{}", self.0.len() - 1)
    }

    /// The handles by position in the document's mounts.
    pub fn place(self, spec: &Spec) -> Vec<(usize, OwnedFd)> {
        let position = |index: usize| {
            let source = format!("handle:{index}");
            spec.mounts.iter().position(|m| m.source == source)
        };
        self.0
            .into_iter()
            .enumerate()
            .filter_map(|(index, handle)| Some((position(index)?, handle)))
            .collect()
    }
}

/// The mounts of a record with their sources.
pub(super) fn find(
    engine: &Engine,
    record: &Record,
    users: Option<&Users>,
) -> Result<(Vec<Mount>, Handles)> {
    let mut mounts = Vec::new();
    let mut handles = Handles::default();
    for mount in &record.mounts {
        mounts.push(match mount.kind {
            MountKind::Tmpfs => oci_mount(mount, ""),
            MountKind::Bind => {
                let source = bind_source(mount)?;
                oci_mount(mount, source)
            }
            MountKind::Volume => {
                let mut found = volume(engine, mount, users, &mut handles)?;
                let own = !engine
                    .0
                    .volumes
                    .get(&mount.name)?
                    .options
                    .contains_key("type");
                if users.is_some() && own {
                    map_owners(&mut found);
                }
                found
            }
            MountKind::Image => {
                let image = engine.0.store.images().resolve(&mount.source)?;
                let root = view(engine, &image, users)?;
                let handle = match mount.subpath.as_str() {
                    "" => root,
                    path => {
                        let root = root_of(root)?;
                        let part = below(&root, path, &mount.target)?;
                        keep_part(&root, part, &mount.target)?
                    }
                };
                oci_mount(mount, &handles.add(handle))
            }
        });
    }
    Ok((mounts, handles))
}

fn keep_part(root: &RootFd, part: OwnedFd, target: &str) -> Result<OwnedFd> {
    mount::keep_part(root, part).map_err(|e| Error::io(format_args!("cannot mount {target}"), e))
}

/// What an image shows, as it is seen by these users.
fn view(engine: &Engine, image: &Image, users: Option<&Users>) -> Result<OwnedFd> {
    let snapshots = engine.0.store.snapshots();
    let view = match users {
        Some(users) => snapshots.view_mapped(image.layers(), &users.owners()?),
        None => snapshots.view(image.layers()),
    };
    Ok(view?.into_fd())
}

/// Where one mount comes from.
pub(super) enum Source {
    /// A detached mount.
    Mount(OwnedFd),
    /// Something mounted on the host.
    Handle(OwnedFd),
}

/// The source of a mount that is no tmpfs, for one that is attached while its container runs.
pub(super) fn handle(
    engine: &Engine,
    mount: &MountRecord,
    users: Option<&Users>,
) -> Result<Source> {
    let path = match mount.kind {
        MountKind::Image => {
            let image = engine.0.store.images().resolve(&mount.source)?;
            let root = view(engine, &image, users)?;
            return Ok(match mount.subpath.as_str() {
                "" => Source::Mount(root),
                path => {
                    let root = root_of(root)?;
                    let part = below(&root, path, &mount.target)?;
                    Source::Mount(keep_part(&root, part, &mount.target)?)
                }
            });
        }
        MountKind::Volume => {
            if engine
                .0
                .volumes
                .get(&mount.name)?
                .options
                .contains_key("type")
            {
                return Err(Error::invalid(format!(
                    "volume {} is a file system of its own (its driver's options say so): it is mounted when a container starts",
                    mount.name
                )));
            }
            engine.0.volumes.data(&mount.name)
        }
        MountKind::Bind | MountKind::Tmpfs => bind_source(mount)?.into(),
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let handle = openat(CWD, &path, flags, Mode::empty())
        .map_err(|e| Error::io(format_args!("cannot open {}", path.display()), e))?;
    Ok(Source::Handle(match mount.subpath.as_str() {
        "" => handle,
        subpath => below(&root_of(handle)?, subpath, &mount.target)?,
    }))
}

/// Files that belong to root on disk belong to the root of the container's user namespace.
pub(crate) fn map_owners(mount: &mut Mount) {
    mount.options.push("idmap".to_owned());
}

/// What is at `path` inside a volume or an image.
fn below(root: &RootFd, path: &str, target: &str) -> Result<OwnedFd> {
    root.handle(Path::new(path)).map_err(|e| {
        Error::invalid(format!(
            "cannot access path {path} of the mount at {target}: {e}"
        ))
    })
}

/// The source of a bind; made, if it is missing and may be.
fn bind_source(mount: &MountRecord) -> Result<&str> {
    let path = Path::new(&mount.source);
    if !path.exists() {
        if !mount.create_source {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                mount.source
            )));
        }
        std::fs::create_dir_all(path).map_err(|e| {
            Error::invalid(format!(
                "error while creating mount source path '{}': {e}",
                mount.source
            ))
        })?;
    }
    Ok(&mount.source)
}

fn volume(
    engine: &Engine,
    mount: &MountRecord,
    users: Option<&Users>,
    handles: &mut Handles,
) -> Result<Mount> {
    let record = engine.0.volumes.get(&mount.name)?;
    if let (Some(kind), Some(device)) = (record.options.get("type"), record.options.get("device")) {
        let options: Vec<String> = record
            .options
            .get("o")
            .map(|o| {
                o.split(',')
                    .filter(|o| !o.is_empty())
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        return driven(mount, (kind, device, options), users, handles).map_err(|e| {
            let data = engine.0.volumes.data(&mount.name);
            e.context(format_args!(
                "error while mounting volume '{}'",
                data.display()
            ))
        });
    }
    let data = engine.0.volumes.data(&mount.name);
    if mount.subpath.is_empty() {
        return Ok(oci_mount(mount, &data.display().to_string()));
    }
    let root = RootFd::open(&data)
        .map_err(|e| Error::io(format_args!("cannot open volume {}", mount.name), e))?;
    let handle = below(&root, &mount.subpath, &mount.target)?;
    Ok(oci_mount(mount, &handles.add(handle)))
}

/// A volume of the local driver with `type`, `device` and `o`. What is not in memory is mounted here:
/// the device is a path of the host, and a container's root may not mount it.
fn driven(
    mount: &MountRecord,
    (kind, device, mut options): (&str, &str, Vec<String>),
    users: Option<&Users>,
    handles: &mut Handles,
) -> Result<Mount> {
    if options.iter().any(|o| o == "bind" || o == "rbind") {
        return Ok(oci_mount(mount, device));
    }
    if kind != "tmpfs" {
        let made = file_system(kind, device, &options).map_err(|e| {
            let all = options.join(",");
            Error::invalid(format!(
                "failed to mount local volume: mount {device}, data: {all}: {e}"
            ))
        })?;
        if let Some(users) = users {
            let change = mount::Attributes {
                idmap: Some(users.owners()?.namespace),
                ..mount::Attributes::default()
            };
            if let Err(error) = mount::set_attributes(&made, false, &change) {
                tracing::warn!(volume = %mount.name, %error, "the owners of a volume cannot be mapped: they are nobody");
            }
        }
        return Ok(oci_mount(mount, &handles.add(made)));
    }
    if mount.read_only {
        options.push("ro".to_owned());
    }
    Ok(Mount {
        destination: mount.target.clone(),
        kind: kind.to_owned(),
        source: device.to_owned(),
        options,
        ..Mount::default()
    })
}

/// A file system of the host, attached nowhere.
fn file_system(kind: &str, device: &str, options: &[String]) -> std::io::Result<OwnedFd> {
    let mut attributes = 0;
    let mut own = vec![("source", Some(device))];
    for option in options {
        match option.as_str() {
            "ro" => {
                attributes |= mount::RDONLY;
                own.push(("ro", None));
            }
            "rw" | "defaults" => {}
            "nosuid" => attributes |= mount::NOSUID,
            "nodev" => attributes |= mount::NODEV,
            "noexec" => attributes |= mount::NOEXEC,
            "noatime" => attributes |= mount::NOATIME,
            other => own.push(match other.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (other, None),
            }),
        }
    }
    mount::new_mount(kind, &own, attributes)
}

/// `/dev/shm` and `/dev/mqueue` of whoever the IPC namespace is shared with.
pub(super) fn shared_memory(
    engine: &Engine,
    ipc: &JoinedMode,
    mounts: &mut Vec<Mount>,
    handles: &mut Handles,
) -> Result<()> {
    let bind = |target: &str, source: String| Mount {
        destination: target.to_owned(),
        kind: "bind".to_owned(),
        source,
        options: vec!["rbind".to_owned(), "rprivate".to_owned()],
        ..Mount::default()
    };
    match ipc {
        JoinedMode::Private | JoinedMode::Bare => {}
        JoinedMode::Host => {
            for path in ["/dev/shm", "/dev/mqueue"] {
                if Path::new(path).exists() {
                    mounts.push(bind(path, path.to_owned()));
                }
            }
        }
        JoinedMode::Container(id) => {
            let pid = running(engine, id, "IPC")?.task()?.pid();
            // Only who is inside can copy it.
            let copy = || mount::clone_path(CWD, "/dev/shm", true);
            let handle = enter(pid, copy)
                .map_err(|e| Error::io("cannot share /dev/shm of the other container", e))?;
            mounts.push(bind("/dev/shm", handles.add(handle)));
        }
    }
    Ok(())
}
