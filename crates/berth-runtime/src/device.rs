//! Devices of the host for a container: `--device` and `--privileged`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_spec::oci::runtime::{Device, DeviceKind, DeviceRule};
use rustix::fs::{major, minor};

/// Entries of a device tree looked at, at most, and how deep it may be.
const MAX_ENTRIES: usize = 65_536;
const MAX_DEPTH: usize = 16;

/// Directories of `/dev` that are the container's own.
const OWN_DIRECTORIES: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// A device that cannot be given; Docker's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("error gathering device information while adding custom device {path:?}: {why}")]
    Custom { path: String, why: String },
    #[error("cannot list the devices of the host")]
    List(#[source] std::io::Error),
}

/// The nodes for `--device HOST:CONTAINER:ACCESS` and the rules that open them. A directory stands
/// for all device nodes in it; symbolic links of the host are followed.
pub fn custom(
    host: &str,
    container: &str,
    access: &str,
) -> Result<(Vec<Device>, Vec<DeviceRule>), Error> {
    let refuse = |why: String| Error::Custom {
        path: host.to_owned(),
        why,
    };
    let plain = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => refuse("no such file or directory".to_owned()),
        _ => refuse(e.to_string()),
    };
    let real = fs::canonicalize(host).map_err(plain)?;
    let metadata = fs::metadata(&real).map_err(plain)?;
    let devices = if metadata.is_dir() {
        let mut found = Vec::new();
        walk(&real, Path::new(container), 0, &mut found).map_err(plain)?;
        found
    } else {
        node(&metadata, Path::new(container)).into_iter().collect()
    };
    if devices.is_empty() {
        return Err(refuse("not a device node".to_owned()));
    }
    let rules = devices
        .iter()
        .map(|device| DeviceRule {
            allow: true,
            kind: device.kind,
            major: Some(device.major),
            minor: Some(device.minor),
            access: access.to_owned(),
        })
        .collect();
    Ok((devices, rules))
}

/// Every device node of the host's `/dev`, for `--privileged`.
pub fn all() -> Result<Vec<Device>, Error> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), Path::new("/dev"), 0, &mut found).map_err(Error::List)?;
    Ok(found)
}

fn walk(
    host: &Path,
    container: &Path,
    depth: usize,
    found: &mut Vec<Device>,
) -> std::io::Result<()> {
    let mut directories: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(host)?.flatten().take(MAX_ENTRIES).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        // Nodes come and go while we look.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let inside = container.join(&name);
        if metadata.is_dir() {
            let own = OWN_DIRECTORIES.iter().any(|n| name == *n);
            if !own && depth < MAX_DEPTH {
                directories.push((entry.path(), inside));
            }
        } else if name != "console" && found.len() < MAX_ENTRIES {
            found.extend(node(&metadata, &inside));
        }
    }
    for (host, container) in directories {
        match walk(&host, &container, depth + 1, found) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// The node that `metadata` tells of, if it is a device.
fn node(metadata: &fs::Metadata, path: &Path) -> Option<Device> {
    let kind = if metadata.file_type().is_block_device() {
        DeviceKind::Block
    } else if metadata.file_type().is_char_device() {
        DeviceKind::Char
    } else {
        return None;
    };
    Some(Device {
        kind,
        path: path.to_str()?.to_owned(),
        major: major(metadata.rdev()).into(),
        minor: minor(metadata.rdev()).into(),
        file_mode: Some(metadata.permissions().mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_by_its_name_or_by_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for host in ["/dev/null", link.to_str().unwrap()] {
            let (devices, rules) = custom(host, "/dev/nothing", "rw").unwrap();
            let device = &devices[0];
            assert_eq!(
                (device.path.as_str(), device.major, device.minor),
                ("/dev/nothing", 1, 3)
            );
            assert_eq!((rules[0].minor, rules[0].access.as_str()), (Some(3), "rw"));
        }
    }

    #[test]
    fn what_is_no_device_is_refused_in_dockers_words() {
        let text = |host| custom(host, "/dev/x", "rwm").unwrap_err().to_string();
        assert_eq!(
            text("/dev/no-such-thing"),
            "error gathering device information while adding custom device \"/dev/no-such-thing\": no such file or directory"
        );
        assert!(text("/etc/passwd").ends_with("not a device node"));
        let empty = tempfile::tempdir().unwrap();
        assert!(text(empty.path().to_str().unwrap()).ends_with("not a device node"));
    }

    #[test]
    fn all_of_the_host_without_what_is_the_containers_own() {
        let devices = all().unwrap();
        let has = |path: &str| devices.iter().any(|d| d.path == path);
        assert!(has("/dev/null"));
        assert!(!has("/dev/console"));
        assert!(!devices.iter().any(|d| d.path.starts_with("/dev/pts/")));
    }
}
