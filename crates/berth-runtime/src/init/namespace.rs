//! Which namespaces a container gets: new ones, those of others, or ours.

use std::os::fd::{AsFd, OwnedFd};

use berth_spec::oci::runtime::{IdMapping, Linux, Namespace, NamespaceKind};
use berth_sys::process as sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context, Error, Result};

/// Checked and opened.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `NEW_*` for clone3, without the cgroup namespace.
    pub flags: u64,
    /// Made after the process has joined its cgroup, for it starts there.
    pub new_cgroup: bool,
    /// Joined by the process itself.
    pub joined: Vec<(NamespaceKind, OwnedFd)>,
    /// Joined by the parent, for its child to be born in.
    pub pid: Option<OwnedFd>,
    pub uid_mappings: Vec<IdMapping>,
    pub gid_mappings: Vec<IdMapping>,
}

impl Namespaces {
    pub fn new(linux: &Linux, netns: Option<OwnedFd>) -> Result<Self> {
        let mut result = Self::default();
        let mut seen = Vec::new();
        let mut netns = netns;
        for namespace in &linux.namespaces {
            if seen.contains(&namespace.kind) {
                let text = format!("duplicated ns {:?}", namespace.kind);
                return Err(Error::invalid(text.to_lowercase()));
            }
            seen.push(namespace.kind);
            match (
                namespace.kind,
                netns.take_if(|_| namespace.kind == NamespaceKind::Network),
            ) {
                (kind, Some(fd)) => result.joined.push((kind, fd)),
                (kind, None) if namespace.path.is_empty() => result.add_new(kind)?,
                _ => result.join(namespace)?,
            }
        }
        if let Some(fd) = netns {
            result.joined.push((NamespaceKind::Network, fd));
        }
        if result.flags & sys::NEW_MOUNT == 0 {
            return Err(Error::invalid(
                "a container needs a mount namespace of its own",
            ));
        }
        if result.own_user() {
            if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
                return Err(Error::invalid(
                    "user namespaces enabled, but no uid or gid mappings found",
                ));
            }
            result.uid_mappings.clone_from(&linux.uid_mappings);
            result.gid_mappings.clone_from(&linux.gid_mappings);
        }
        Ok(result)
    }

    /// Whether the container is root of a user namespace of its own.
    pub fn own_user(&self) -> bool {
        self.flags & sys::NEW_USER != 0
    }

    /// Whether a namespace of that kind is other than ours.
    pub fn separate(&self, kind: NamespaceKind) -> bool {
        flag(kind).is_some_and(|f| self.flags & f != 0)
            || self.joined.iter().any(|(k, _)| *k == kind)
    }

    fn add_new(&mut self, kind: NamespaceKind) -> Result<()> {
        match flag(kind) {
            Some(flag) => self.flags |= flag,
            None if kind == NamespaceKind::Cgroup => self.new_cgroup = true,
            None => return Err(Error::invalid("time namespaces are not supported")),
        }
        Ok(())
    }

    fn join(&mut self, namespace: &Namespace) -> Result<()> {
        let path = &namespace.path;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd =
            openat(CWD, path, flags, Mode::empty()).invalid(|| format!("namespace {path:?}"))?;
        let magic = rustix::fs::fstatfs(&fd).context(|| format!("namespace {path:?}"))?;
        // NSFS_MAGIC.
        if magic.f_type as u64 != 0x6e73_6673 {
            return Err(Error::invalid(format!("{path:?} is not a namespace")));
        }
        match namespace.kind {
            NamespaceKind::Pid => self.pid = Some(fd),
            NamespaceKind::Mount | NamespaceKind::User | NamespaceKind::Time => {
                return Err(Error::invalid(format!(
                    "joining a namespace of this kind ({path}) is not supported"
                )));
            }
            kind => self.joined.push((kind, fd)),
        }
        Ok(())
    }

    /// Joins those of others. For the process itself.
    pub fn enter(&self) -> Result<()> {
        for (kind, fd) in &self.joined {
            move_into_link_name_space(fd.as_fd(), kind_of(*kind))
                .context(|| format!("joining the {kind:?} namespace"))?;
        }
        Ok(())
    }
}

fn flag(kind: NamespaceKind) -> Option<u64> {
    Some(match kind {
        NamespaceKind::Mount => sys::NEW_MOUNT,
        NamespaceKind::Pid => sys::NEW_PID,
        NamespaceKind::Network => sys::NEW_NETWORK,
        NamespaceKind::Ipc => sys::NEW_IPC,
        NamespaceKind::Uts => sys::NEW_UTS,
        NamespaceKind::User => sys::NEW_USER,
        NamespaceKind::Cgroup | NamespaceKind::Time => return None,
    })
}

fn kind_of(kind: NamespaceKind) -> Option<LinkNameSpaceType> {
    Some(match kind {
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        _ => return None,
    })
}

/// What is written to `uid_map` and `gid_map`.
pub(super) fn map_text(mappings: &[IdMapping]) -> String {
    mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(kinds: &[NamespaceKind]) -> Linux {
        let namespaces = kinds
            .iter()
            .map(|kind| Namespace {
                kind: *kind,
                path: String::new(),
            })
            .collect();
        Linux {
            namespaces,
            ..Linux::default()
        }
    }

    #[test]
    fn namespaces_are_checked() {
        use NamespaceKind::{Cgroup, Mount, Network, Pid, User};
        let made = Namespaces::new(&linux(&[Mount, Pid, Cgroup]), None).unwrap();
        assert_eq!(made.flags, sys::NEW_MOUNT | sys::NEW_PID);
        assert!(made.new_cgroup && !made.separate(Network));
        assert!(Namespaces::new(&linux(&[Pid]), None).is_err());
        assert!(Namespaces::new(&linux(&[Mount, Mount]), None).is_err());
        assert!(Namespaces::new(&linux(&[Mount, User]), None).is_err());
    }

    #[test]
    fn a_given_network_wins() {
        use NamespaceKind::{Mount, Network};
        let fd = std::fs::File::open("/proc/self/ns/net").unwrap();
        let made = Namespaces::new(&linux(&[Mount, Network]), Some(fd.into())).unwrap();
        assert_eq!(made.flags, sys::NEW_MOUNT);
        assert!(made.separate(Network));
    }

    #[test]
    fn only_namespaces_are_joined() {
        let mut document = linux(&[NamespaceKind::Mount]);
        document.namespaces.push(Namespace {
            kind: NamespaceKind::Ipc,
            path: "/etc/passwd".into(),
        });
        let error = Namespaces::new(&document, None).unwrap_err();
        assert!(error.to_string().contains("not a namespace"), "{error}");
    }
}
