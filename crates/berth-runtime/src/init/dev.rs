//! What stands in a container's `/dev`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use berth_spec::oci::runtime::{Device, DeviceKind};
use berth_sys::mount;
use berth_sys::root::RootFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat,
    symlinkat,
};
use rustix::io::Errno;

use crate::defaults;
use crate::error::{Context, Error, Result};

/// Links that every `/dev` has (config-linux.md, "Default Devices" and "Dev symbolic links").
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// A node to make; for a container that may not make nodes, the host's own to mount there.
#[derive(Debug)]
pub(crate) struct Node {
    device: Device,
    host: Option<OwnedFd>,
}

impl Node {
    fn below_dev(&self) -> bool {
        below_dev(&self.device)
    }
}

fn below_dev(device: &Device) -> bool {
    device.path.starts_with("/dev/")
}

/// Which nodes are the host's own, mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bind {
    None,
    /// `/dev` is filled by who may make nodes; the rest of the root is not.
    OutsideDev,
    All,
}

/// All nodes of a container: the default ones, then those asked for.
pub(super) fn plan(asked: &[Device], bind: Bind) -> Result<Vec<Node>> {
    let mut devices = defaults::devices();
    for device in asked {
        let named = !device.path.ends_with('/');
        if !device.path.starts_with('/') || !clean(&device.path) || !named {
            return Err(Error::invalid(format!(
                "device {:?}: not a clean absolute path",
                device.path
            )));
        }
        if [device.uid, device.gid].contains(&Some(u32::MAX)) {
            return Err(Error::invalid(format!(
                "device {:?}: the user or group ID 4294967295 means none",
                device.path
            )));
        }
        devices.retain(|d| d.path != device.path);
        devices.push(device.clone());
    }
    devices
        .into_iter()
        .map(|device| {
            let host = match bind {
                Bind::None => None,
                Bind::OutsideDev if below_dev(&device) => None,
                Bind::OutsideDev | Bind::All => Some(host_node(&device)?),
            };
            Ok(Node { device, host })
        })
        .collect()
}

fn clean(path: &str) -> bool {
    Path::new(path)
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

/// A detached mount of the host's node, which is looked at before it is given.
fn host_node(device: &Device) -> Result<OwnedFd> {
    let what = || format!("device {:?}", device.path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(CWD, &device.path, flags, Mode::empty()).invalid(what)?;
    let stat = fstat(&handle).context(what)?;
    let (kind, number) = number(device)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
        return Err(Error::invalid(format!("{}: the host has another", what())));
    }
    mount::clone_handle(&handle, false).context(what)
}

fn number(device: &Device) -> Result<(FileType, u64)> {
    let part = |n: i64| {
        u32::try_from(n).map_err(|_| Error::invalid(format!("device {:?}: {n}", device.path)))
    };
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => return Ok((FileType::Fifo, 0)),
        DeviceKind::All => {
            let text = format!("device {:?}: it has no type", device.path);
            return Err(Error::invalid(text));
        }
    };
    Ok((kind, makedev(part(device.major)?, part(device.minor)?)))
}

/// Fills `/dev`, given as a handle of the directory. The umask is nothing.
pub(super) fn populate(dev: BorrowedFd<'_>, nodes: &[Node], console: bool) -> Result<()> {
    let what = || "populating /dev".to_owned();
    let root = RootFd::new(dev.try_clone_to_owned().context(what)?).context(what)?;
    for node in nodes.iter().filter(|node| node.below_dev()) {
        make(&root, node, "/dev")?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, &root, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e).context(|| format!("creating /dev/{name}")),
        }
    }
    if console {
        match root.create_file(Path::new("console"), 0o600) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).context(|| "creating /dev/console".to_owned()),
        }
    }
    Ok(())
}

/// Makes those that stand elsewhere in the root. The umask is nothing.
pub(super) fn populate_elsewhere(root: &RootFd, nodes: &[Node]) -> Result<()> {
    let mut nodes = nodes.iter().filter(|node| !node.below_dev());
    nodes.try_for_each(|node| make(root, node, "/"))
}

fn make(root: &RootFd, node: &Node, at: &str) -> Result<()> {
    make_node(root, node, at)
        .map_err(|e| e.during(&format!("creating device node {:?}", node.device.path)))
}

/// Makes a node in the directory that is seen `at` that path.
fn make_node(root: &RootFd, node: &Node, at: &str) -> Result<()> {
    let device = &node.device;
    let path: PathBuf = Path::new(&device.path)
        .strip_prefix(at)
        .context(String::new)?
        .into();
    let what = || "making it".to_owned();
    if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        root.mkdir_all(above, 0o755).context(what)?;
    }
    let (parent, name) = root.parent(&path).context(what)?;
    if let Some(host) = &node.host {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(&parent, &name, flags, Mode::empty()).context(what)?;
        return mount::attach(host, target).context(what);
    }
    let (kind, number) = number(device)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(&parent, &name, kind, mode, number) {
        Ok(()) => {}
        // A /dev that came with the root file system may have the node already.
        Err(Errno::EXIST) => {
            let stat = berth_sys::root::stat_at(&parent, &name).context(what)?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
                return Err(Error::invalid("something else is there"));
            }
            return Ok(());
        }
        Err(e) => return Err(e).context(what),
    }
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if (uid, gid) != (0, 0) {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
    }
    Ok(())
}

/// A handle of `/dev/null`, made sure to be that.
pub(super) fn null(dev: impl AsFd) -> Result<OwnedFd> {
    let what = || "/dev/null".to_owned();
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(dev, "null", flags, Mode::empty()).context(what)?;
    let stat = fstat(&handle).context(what)?;
    let char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !char || stat.st_rdev != makedev(1, 3) {
        return Err(Error::invalid("/dev/null is not the null device"));
    }
    Ok(handle)
}

/// Gives standard streams that are the host's `/dev/null` the container's in its place: whoever
/// opens them again by their name, or dumps the process, finds them in here.
pub(super) fn replace_null(dev: impl AsFd) -> Result<()> {
    let what = || "/dev/null".to_owned();
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let is_null = |fd: &BorrowedFd<'_>| {
        fstat(fd).is_ok_and(|stat| {
            let kind = FileType::from_raw_mode(stat.st_mode);
            kind == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
        })
    };
    let which = streams.map(|stream| is_null(&stream));
    if which == [false; 3] {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = match openat(dev, "null", flags, Mode::empty()) {
        Ok(own) if is_null(&own.as_fd()) => own,
        // A `/dev` that has none, or something else: the streams work as they are.
        _ => return Ok(()),
    };
    if which[0] {
        rustix::stdio::dup2_stdin(&own).context(what)?;
    }
    if which[1] {
        rustix::stdio::dup2_stdout(&own).context(what)?;
    }
    if which[2] {
        rustix::stdio::dup2_stderr(&own).context(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_asked_for_replace_default_ones() {
        let mut device = defaults::devices().remove(0);
        device.file_mode = Some(0o600);
        let nodes = plan(&[device], Bind::None).unwrap();
        assert_eq!(nodes.len(), 6);
        assert_eq!(nodes[5].device.file_mode, Some(0o600));
        for path in ["/dev/../etc/x", "dev/x", "/dev/", "/"] {
            let device = Device {
                path: path.into(),
                ..defaults::devices().remove(0)
            };
            assert!(plan(&[device], Bind::None).is_err(), "{path}");
        }
    }

    #[test]
    fn a_false_null_is_found_out() {
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", temp.path().join("null")).unwrap();
        let dir = std::fs::File::open(temp.path()).unwrap();
        assert!(null(&dir).is_err());
        let dev = std::fs::File::open("/dev").unwrap();
        null(&dev).unwrap();
    }

    #[test]
    fn the_hosts_nodes_are_looked_at() {
        let mut device = defaults::devices().remove(0);
        host_node(&device).unwrap();
        device.minor = 5;
        assert!(host_node(&device).is_err());
    }
}
