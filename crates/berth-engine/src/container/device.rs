//! Devices of the host that a container sees.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use berth_spec::docker::HostConfig;
use berth_spec::oci::runtime::{Device, DeviceKind, DeviceRule};

use crate::{Error, Result};

/// How many directories deep devices are looked for.
const DEPTH: usize = 6;

/// Nodes to be made, and what may be done with them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub nodes: Vec<Device>,
    pub rules: Vec<DeviceRule>,
}

/// The devices a container asks for: all of them where it is privileged.
pub(super) fn find(host: &HostConfig) -> Result<Devices> {
    let mut devices = Devices::default();
    if host.privileged {
        collect(Path::new("/dev"), "/dev", 0, &mut devices.nodes);
        return Ok(devices);
    }
    for mapping in host.devices.iter().flatten() {
        let inside = match mapping.path_in_container.as_str() {
            "" => mapping.path_on_host.as_str(),
            path => path,
        };
        let access = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            access => access,
        };
        super::plan::check_device_access(access)?;
        let failed = |e: std::io::Error| {
            let cause = match e.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => e.to_string(),
            };
            Error::invalid(format!(
                "error gathering device information while adding custom device \"{}\": {cause}",
                mapping.path_on_host
            ))
        };
        let path = Path::new(&mapping.path_on_host)
            .canonicalize()
            .map_err(failed)?;
        let before = devices.nodes.len();
        if path.is_dir() {
            collect(&path, inside, 0, &mut devices.nodes);
        } else if let Some(node) = node(&path, inside).map_err(failed)? {
            devices.nodes.push(node);
        }
        if devices.nodes.len() == before {
            return Err(Error::invalid(format!(
                "error gathering device information while adding custom device \"{}\": not a device node",
                mapping.path_on_host
            )));
        }
        for node in &devices.nodes[before..] {
            devices.rules.push(DeviceRule {
                allow: true,
                kind: node.kind,
                major: Some(node.major),
                minor: Some(node.minor),
                access: access.to_owned(),
            });
        }
    }
    Ok(devices)
}

/// All device nodes below a directory, but those that every container has of its own.
fn collect(dir: &Path, inside: &str, depth: usize, found: &mut Vec<Device>) {
    const OWN: [&str; 8] = [
        "pts", "shm", "mqueue", "fd", "console", "ptmx", ".lxc", ".udev",
    ];
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if depth == 0 && OWN.contains(&name.as_str()) {
            continue;
        }
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let path = format!("{inside}/{name}");
        if kind.is_dir() && depth < DEPTH {
            collect(&entry.path(), &path, depth + 1, found);
        } else if let Ok(Some(node)) = node(&entry.path(), &path) {
            found.push(node);
        }
    }
}

/// A node as the document has it; none where it is something else.
pub(super) fn node(path: &Path, inside: &str) -> std::io::Result<Option<Device>> {
    let meta = std::fs::symlink_metadata(path)?;
    let kind = if meta.file_type().is_block_device() {
        DeviceKind::Block
    } else if meta.file_type().is_char_device() {
        DeviceKind::Char
    } else {
        return Ok(None);
    };
    Ok(Some(Device {
        path: inside.to_owned(),
        kind,
        major: i64::from(rustix::fs::major(meta.rdev())),
        minor: i64::from(rustix::fs::minor(meta.rdev())),
        file_mode: Some(meta.mode() & 0o7777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
    }))
}

/// The numbers of a block device, for limits.
pub(crate) fn numbers(path: &str) -> Result<(i64, i64)> {
    let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::invalid(format!("stat {path}: no such file or directory"))
        }
        _ => Error::invalid(format!("stat {path}: {e}")),
    })?;
    if !meta.file_type().is_block_device() {
        return Err(Error::invalid(format!("{path} is no block device")));
    }
    Ok((
        i64::from(rustix::fs::major(meta.rdev())),
        i64::from(rustix::fs::minor(meta.rdev())),
    ))
}
