//! Which namespaces a container gets: new ones, those of others, or ours.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use berth_spec::oci::runtime::{Linux, Namespace, NamespaceKind, TimeOffset};
use berth_sys::process as sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::sysctl;
use crate::error::{Context, Error, Result};
use crate::launcher::World;
use crate::user_namespace;

/// Checked and opened.
///
/// A user namespace is always joined, also a new one, which is made first: mounts are mapped by it
/// before the process is there. Whoever joins one cannot return, and only what is made afterwards
/// belongs to it. So a copy of the parent goes ahead and is left where it gets to ([`Self::indirect`]).
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `NEW_*` for clone3, without the user, cgroup and time namespaces.
    pub flags: u64,
    /// Made after the process has joined its cgroup, for it starts there.
    pub new_cgroup: bool,
    /// Joined by the process itself.
    pub joined: Vec<(NamespaceKind, OwnedFd)>,
    /// Joined by whoever makes the process, for it to be born in.
    pub pid: Option<OwnedFd>,
    /// The same, and what it makes then belongs to it.
    pub user: Option<OwnedFd>,
    /// A new one, with the offsets of its clocks.
    pub new_time: Option<BTreeMap<String, TimeOffset>>,
    /// One to be made, and then to be `user`.
    pub new_user: bool,
}

/// Namespaces given by whoever starts a container, instead of what the document says.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub network: Option<OwnedFd>,
    pub user: Option<OwnedFd>,
}

impl Namespaces {
    pub fn new(world: &World, linux: &Linux, given: Given) -> Result<Self> {
        let mut result = Self::checked(linux, given)?;
        if std::mem::take(&mut result.new_user) {
            let made =
                user_namespace::make(&world.procfs, &linux.uid_mappings, &linux.gid_mappings)?;
            result.user = Some(made);
        }
        Ok(result)
    }

    fn checked(linux: &Linux, given: Given) -> Result<Self> {
        let mut result = Self {
            user: given.user,
            ..Self::default()
        };
        let mut seen = Vec::new();
        let mut netns = given.network;
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
                (NamespaceKind::User, None) if result.user.is_some() => {}
                (kind, None) if namespace.path.is_empty() => result.add_new(kind, linux)?,
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
        if result.new_user && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
            return Err(Error::invalid(
                "user namespaces enabled, but no uid or gid mappings found",
            ));
        }
        if !linux.time_offsets.is_empty() && result.new_time.is_none() {
            return Err(Error::invalid(
                "time namespace offsets specified, but time namespace is not enabled",
            ));
        }
        Ok(result)
    }

    /// Whether the container has a user namespace other than ours.
    pub fn own_user(&self) -> bool {
        self.user.is_some()
    }

    /// Whether the process cannot be made by its parent directly.
    pub fn indirect(&self) -> bool {
        let time = |(kind, _): &(NamespaceKind, OwnedFd)| *kind == NamespaceKind::Time;
        self.own_user() || self.new_time.is_some() || self.joined.iter().any(time)
    }

    /// Whether a namespace of that kind is other than ours.
    pub fn separate(&self, kind: NamespaceKind) -> bool {
        flag(kind).is_some_and(|f| self.flags & f != 0)
            || self.joined.iter().any(|(k, _)| *k == kind)
    }

    fn add_new(&mut self, kind: NamespaceKind, linux: &Linux) -> Result<()> {
        match kind {
            NamespaceKind::User => self.new_user = true,
            NamespaceKind::Cgroup => self.new_cgroup = true,
            NamespaceKind::Time => {
                check_offsets(&linux.time_offsets)?;
                self.new_time = Some(linux.time_offsets.clone());
            }
            _ => self.flags |= flag(kind).unwrap_or(0),
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
            NamespaceKind::User => self.user = Some(fd),
            NamespaceKind::Mount => {
                return Err(Error::invalid(format!(
                    "joining a namespace of this kind ({path}) is not supported"
                )));
            }
            kind => self.joined.push((kind, fd)),
        }
        Ok(())
    }

    /// Joins those of others. For the process itself, or the one that goes ahead of it.
    pub fn enter(&self) -> Result<()> {
        for (kind, fd) in &self.joined {
            move_into_link_name_space(fd.as_fd(), kind_of(*kind))
                .context(|| format!("joining the {kind:?} namespace"))?;
        }
        Ok(())
    }

    /// Goes where the process is to be born, with rights over all namespaces that are joined until
    /// the user namespace is. For the one that goes ahead.
    pub fn go_ahead(&self, world: &World) -> Result<()> {
        if let Some(pid) = &self.pid {
            move_into_link_name_space(pid.as_fd(), Some(LinkNameSpaceType::ProcessID))
                .context(|| "joining the PID namespace".to_owned())?;
        }
        self.enter()?;
        if let Some(user) = &self.user {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .invalid(|| "joining the user namespace".to_owned())?;
        }
        if let Some(offsets) = &self.new_time {
            sys::unshare(sys::NEW_TIME).invalid(|| "making a time namespace".to_owned())?;
            let text = offsets_text(offsets);
            if !text.is_empty() {
                sysctl::write(&world.procfs, "self/timens_offsets", &text)
                    .invalid(|| "setting the clocks of the time namespace".to_owned())?;
            }
        }
        Ok(())
    }
}

fn check_offsets(offsets: &BTreeMap<String, TimeOffset>) -> Result<()> {
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(format!(
                "time namespace offset of unknown clock {clock:?}"
            )));
        }
        if offset.nanosecs > 999_999_999 {
            return Err(Error::invalid(format!(
                "time namespace offset of {clock}: {} nanoseconds are a second or more",
                offset.nanosecs
            )));
        }
    }
    Ok(())
}

/// What is written to `timens_offsets` (time_namespaces(7)).
fn offsets_text(offsets: &BTreeMap<String, TimeOffset>) -> String {
    offsets
        .iter()
        .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs))
        .collect()
}

fn flag(kind: NamespaceKind) -> Option<u64> {
    Some(match kind {
        NamespaceKind::Mount => sys::NEW_MOUNT,
        NamespaceKind::Pid => sys::NEW_PID,
        NamespaceKind::Network => sys::NEW_NETWORK,
        NamespaceKind::Ipc => sys::NEW_IPC,
        NamespaceKind::Uts => sys::NEW_UTS,
        NamespaceKind::User | NamespaceKind::Cgroup | NamespaceKind::Time => return None,
    })
}

fn kind_of(kind: NamespaceKind) -> Option<LinkNameSpaceType> {
    Some(match kind {
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Time => LinkNameSpaceType::Time,
        _ => return None,
    })
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
        let made = Namespaces::checked(&linux(&[Mount, Pid, Cgroup]), Given::default()).unwrap();
        assert_eq!(made.flags, sys::NEW_MOUNT | sys::NEW_PID);
        assert!(made.new_cgroup && !made.separate(Network));
        assert!(Namespaces::checked(&linux(&[Pid]), Given::default()).is_err());
        assert!(Namespaces::checked(&linux(&[Mount, Mount]), Given::default()).is_err());
        assert!(Namespaces::checked(&linux(&[Mount, User]), Given::default()).is_err());
    }

    #[test]
    fn a_given_network_wins() {
        use NamespaceKind::{Mount, Network};
        let fd = std::fs::File::open("/proc/self/ns/net").unwrap();
        let given = Given {
            network: Some(fd.into()),
            ..Given::default()
        };
        let made = Namespaces::checked(&linux(&[Mount, Network]), given).unwrap();
        assert_eq!(made.flags, sys::NEW_MOUNT);
        assert!(made.separate(Network));
    }

    #[test]
    fn clocks_are_checked() {
        use NamespaceKind::{Mount, Time};
        let check = |kinds: &[NamespaceKind], clock: &str, nanosecs: u32| {
            let mut document = linux(kinds);
            let offset = TimeOffset { secs: -7, nanosecs };
            document.time_offsets.insert(clock.to_owned(), offset);
            Namespaces::checked(&document, Given::default())
        };
        let made = check(&[Mount, Time], "boottime", 5).unwrap();
        assert!(made.indirect());
        assert_eq!(offsets_text(&made.new_time.unwrap()), "boottime -7 5\n");
        assert!(check(&[Mount, Time], "realtime", 0).is_err());
        assert!(check(&[Mount, Time], "monotonic", 1_000_000_000).is_err());
        assert!(check(&[Mount], "monotonic", 0).is_err());
    }

    #[test]
    fn only_namespaces_are_joined() {
        let mut document = linux(&[NamespaceKind::Mount]);
        document.namespaces.push(Namespace {
            kind: NamespaceKind::Ipc,
            path: "/etc/passwd".into(),
        });
        let error = Namespaces::checked(&document, Given::default()).unwrap_err();
        assert!(error.to_string().contains("not a namespace"), "{error}");
    }
}
