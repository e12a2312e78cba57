//! Kernel parameters of a container's own namespaces.

use std::os::fd::AsFd;

use berth_spec::oci::runtime::{Linux, NamespaceKind};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::namespace::Namespaces;
use crate::error::{Context, Error, Result};

/// Of the IPC namespace, below `kernel.`.
const IPC: [&str; 8] = [
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shmall",
    "shmmax",
    "shmmni",
    "shm_rmid_forced",
];

/// Parameters by their path below `/proc/sys`, with their values. One that is not of a namespace of
/// the container's own would change the host.
pub(super) fn check(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(String, String)>> {
    let mut checked = Vec::new();
    for (name, value) in &linux.sysctl {
        let path =
            path(name).ok_or_else(|| Error::invalid(format!("sysctl {name:?} is no name")))?;
        if path == "kernel/hostname" {
            return Err(Error::invalid(format!(
                "sysctl {name:?} conflicts with the OCI field \"hostname\""
            )));
        }
        let kind = kind(&path).ok_or_else(|| {
            Error::invalid(format!(
                "sysctl {name:?} is not in a separate kernel namespace"
            ))
        })?;
        if !namespaces.separate(kind) {
            return Err(Error::invalid(match kind {
                NamespaceKind::Network => {
                    format!("sysctl {name:?} not allowed in host network namespace")
                }
                _ => format!("sysctl {name:?} is not allowed in the hosts namespaces"),
            }));
        }
        checked.push((path, value.clone()));
    }
    Ok(checked)
}

/// `net.ipv4.ip_forward` and `net/ipv4/ip_forward` are the same; in the second form, and after the
/// first separator of it, dots are dots.
fn path(name: &str) -> Option<String> {
    let separator = name.find(['.', '/'])?;
    let path = if name[separator..].starts_with('/') {
        name.to_owned()
    } else {
        // A slash in the dotted form stands for a dot in a name (sysctl.d(5)).
        name.chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect()
    };
    let good = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    good.then_some(path)
}

fn kind(path: &str) -> Option<NamespaceKind> {
    match path.split_once('/')? {
        ("net", _) => Some(NamespaceKind::Network),
        ("kernel", "domainname") => Some(NamespaceKind::Uts),
        ("kernel", name) if IPC.contains(&name) => Some(NamespaceKind::Ipc),
        ("fs", name) if name.starts_with("mqueue/") => Some(NamespaceKind::Ipc),
        _ => None,
    }
}

/// Writes them, through a procfs that nobody else can reach.
pub(super) fn apply(procfs: impl AsFd, parameters: &[(String, String)]) -> Result<()> {
    for (path, value) in parameters {
        write(&procfs, &format!("sys/{path}"), value)
            .invalid(|| format!("write sysctl {path:?} value {value:?}"))?;
    }
    Ok(())
}

/// Writes a file below a private procfs; what is written is one write, as such files want it.
pub(crate) fn write(procfs: impl AsFd, path: &str, value: &str) -> rustix::io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat2(procfs, path, flags, Mode::empty(), resolve)?;
    rustix::io::write(file, value.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(
            path("net/ipv4/conf/eth0.1/x").unwrap(),
            "net/ipv4/conf/eth0.1/x"
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.x").unwrap(),
            "net/ipv4/conf/eth0.1/x"
        );
        for bad in ["", "kernel", "net/../kernel/core_pattern", "net..x", "/net"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_hosts_parameters_are_refused() {
        let check = |name: &str, kinds: &[NamespaceKind]| {
            let mut linux = Linux::default();
            linux.sysctl.insert(name.to_owned(), "1".to_owned());
            let namespaces = Namespaces {
                joined: kinds
                    .iter()
                    .map(|k| (*k, std::fs::File::open("/dev/null").unwrap().into()))
                    .collect(),
                ..Namespaces::default()
            };
            super::check(&linux, &namespaces).map(drop)
        };
        check("net.core.somaxconn", &[NamespaceKind::Network]).unwrap();
        check("kernel.shmmax", &[NamespaceKind::Ipc]).unwrap();
        assert!(check("net.core.somaxconn", &[]).is_err());
        assert!(check("kernel.core_pattern", &[NamespaceKind::Ipc]).is_err());
        assert!(check("vm.swappiness", &[NamespaceKind::Ipc]).is_err());
    }
}
