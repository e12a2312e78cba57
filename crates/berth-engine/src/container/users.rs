//! The user namespace of a container: none, one of its own, or that of the container whose other
//! namespaces it shares.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use berth_store::{MountOptions, Owners};

use super::launch::running;
use super::plan::{JoinedMode, NetworkMode, UsersMode, check_users};
use super::record::{Container, Record};
use crate::ids::IdMaps;
use crate::{Engine, Error, Result};

/// A user namespace for one start.
#[derive(Debug)]
pub(crate) struct Users {
    pub namespace: OwnedFd,
    /// A network namespace that belongs to it, if the container has one of its own.
    pub network: Option<OwnedFd>,
    pub maps: IdMaps,
}

impl Users {
    /// For mounts whose owners it maps.
    pub fn owners(&self) -> Result<Owners<'_>> {
        let (uid, gid) = self.maps.root()?;
        Ok(Owners {
            namespace: self.namespace.as_fd(),
            uid,
            gid,
        })
    }
}

/// The user namespace of a container that runs with the process `pid`; none where it is ours.
pub(crate) fn of_running(container: &Container, pid: i32) -> Result<Option<Users>> {
    let Some(maps) = container.read(|r| r.ids.clone()) else {
        return Ok(None);
    };
    Ok(Some(Users {
        namespace: namespace_of(pid)?,
        network: None,
        maps,
    }))
}

fn namespace_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    File::open(&path)
        .map(OwnedFd::from)
        .map_err(|e| Error::io(format_args!("cannot open {path}"), e))
}

/// The options of a mount for a container with these users, or without.
pub(crate) fn mount_options(users: Option<&Users>, volatile: bool) -> Result<MountOptions<'_>> {
    let owners = users.map(Users::owners).transpose()?;
    Ok(MountOptions { volatile, owners })
}

/// The user namespace that a start takes. Blocks.
///
/// # Errors
/// Docker's words where it shares with the host what it may not.
pub(crate) fn prepare(
    engine: &Engine,
    record: &Record,
    network: &NetworkMode,
) -> Result<Option<Users>> {
    let maps = match UsersMode::parse(&record.host.userns_mode)? {
        UsersMode::Host => return Ok(None),
        UsersMode::Auto => record.own_ids.as_ref(),
        UsersMode::Default => engine.0.settings.remap.as_ref(),
    };
    let Some(maps) = maps else {
        return Ok(None);
    };
    check_users(&record.host)?;
    if let Some(shared) = shared(engine, record, network)? {
        return Ok(Some(shared));
    }
    let own_network = matches!(network, NetworkMode::Network(_) | NetworkMode::None);
    let made = engine.0.tasks.user_namespace(maps, own_network)?;
    Ok(Some(Users {
        namespace: made.user,
        network: made.network,
        maps: maps.clone(),
    }))
}

/// The user namespace of the containers whose namespaces are joined: those belong to it, and only who
/// is in it has rights over them.
fn shared(engine: &Engine, record: &Record, network: &NetworkMode) -> Result<Option<Users>> {
    let host = &record.host;
    let mut others: Vec<(Arc<Container>, &str)> = Vec::new();
    if let NetworkMode::Container(id) = network {
        others.push((running(engine, id, "network")?, "network"));
    }
    for (mode, what) in [
        (JoinedMode::pid(&host.pid_mode)?, "PID"),
        (JoinedMode::ipc(&host.ipc_mode)?, "IPC"),
    ] {
        if let JoinedMode::Container(id) = mode {
            others.push((running(engine, &id, what)?, what));
        }
    }
    let mut found: Option<(i32, std::path::PathBuf, IdMaps)> = None;
    for (other, what) in others {
        let Some(maps) = other.read(|r| r.ids.clone()) else {
            return Err(Error::conflict(format!(
                "cannot share the {what} namespace of container {}: it runs in the host's user namespace",
                other.id
            )));
        };
        let pid = other.task()?.pid();
        let link = std::fs::read_link(format!("/proc/{pid}/ns/user"))
            .map_err(|e| Error::io("cannot read a user namespace", e))?;
        match &found {
            Some((_, first, _)) if *first != link => {
                return Err(Error::conflict(format!(
                    "cannot share the {what} namespace of container {}: it runs in another user namespace than the others",
                    other.id
                )));
            }
            _ => found = Some((pid, link, maps)),
        }
    }
    let Some((pid, _, maps)) = found else {
        return Ok(None);
    };
    Ok(Some(Users {
        namespace: namespace_of(pid)?,
        network: None,
        maps,
    }))
}

/// Tries what `--userns-remap` takes, so that an engine that cannot says so at once.
pub(crate) fn try_remap(engine: &Engine, maps: &IdMaps) -> Result<()> {
    let tried = (|| {
        let made = engine.0.tasks.user_namespace(maps, true)?;
        let (uid, gid) = maps.root()?;
        let owners = Owners {
            namespace: made.user.as_fd(),
            uid,
            gid,
        };
        Ok::<_, Error>(engine.0.store.snapshots().try_mapped(&owners)?)
    })();
    tried.map_err(|e| e.context("--userns-remap cannot be used here"))
}
