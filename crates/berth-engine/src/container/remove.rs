//! remove: a container and what belongs to it go.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_store::Condemned;

use super::exit;
use super::kill::{SIGKILL, ended, mark_stopped, send};
use super::plan::MountKind;
use super::record::Container;
use super::state::{Happening, Status};
use crate::crossing::blocking;
use crate::db::{Batch, Kind};
use crate::{Engine, Error, ErrorKind, Result, volume};

/// How [`remove`] goes about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// A running container is killed first.
    pub force: bool,
    /// Its anonymous volumes go with it.
    pub volumes: bool,
    /// Only the link `name/alias` is removed.
    pub link: bool,
}

/// Removes a container.
pub async fn remove(engine: &Engine, id: &str, options: RemoveOptions) -> Result<()> {
    if options.link {
        return Err(Error::invalid(format!(
            "links of containers are names in /etc/hosts here; {id} has none to remove"
        )));
    }
    let container = engine.0.containers.find(id)?;
    engine.make_way();
    if options.force {
        if container.status() == Status::Restarting {
            mark_stopped(engine, &container)?;
            exit::call_off(engine, &container).await?;
        }
        end(engine, &container).await?;
    }
    if container.status() == Status::Removing {
        return Err(Error::conflict(format!(
            "removal of container {} is already in progress",
            container.name()
        )));
    }
    let _key = container.key.lock().await;
    if container.pulse.borrow().removed {
        return match options.force {
            true => Ok(()),
            false => Err(Error::not_found(format!("No such container: {id}"))),
        };
    }
    remove_held(engine, &container, options).await
}

/// Kills a container that runs.
async fn end(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    let status = container.status();
    if status == Status::Restarting {
        mark_stopped(engine, container)?;
        return exit::give_up(engine, container);
    }
    if status.alive() {
        mark_stopped(engine, container)?;
        match send(engine, container, SIGKILL).await {
            Err(error) if container.task().is_ok() && container.status().alive() => {
                return Err(error.context(format_args!(
                    "cannot remove container \"/{}\": could not kill container",
                    container.name()
                )));
            }
            _ => ended(container).await,
        }
    }
    Ok(())
}

/// Removes a container whose key is held.
pub(super) async fn remove_held(
    engine: &Engine,
    container: &Arc<Container>,
    options: RemoveOptions,
) -> Result<()> {
    if options.force && container.status().running() {
        end(engine, container).await?;
    }
    container.happen(&engine.0.db, Happening::RemovalBegan, |r| {
        r.life.with_volumes = options.volumes;
    })?;
    berth_sys::fail_point("container.remove.begun");
    if let Err(error) = finish_with(engine, container, options.volumes).await {
        container.happen(&engine.0.db, Happening::RemovalFailed, |r| {
            r.life.error = error.to_string();
        })?;
        return Err(error);
    }
    Ok(())
}

/// Finishes a removal that began before the engine ended.
pub(crate) async fn finish(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    let volumes = container.read(|r| r.host.auto_remove || r.life.with_volumes);
    finish_with(engine, container, volumes).await
}

async fn finish_with(engine: &Engine, container: &Arc<Container>, volumes: bool) -> Result<()> {
    let volumes = match volumes {
        true => anonymous_volumes(container),
        false => Vec::new(),
    };
    let condemned = {
        let (engine, container) = (engine.clone(), container.clone());
        let volumes = volumes.clone();
        blocking(move || delete(&engine, &container, &volumes)).await?
    };
    sweep(engine, container, condemned);
    engine.0.containers.remove(container);
    engine.0.execs.forget(&container.id);
    super::tell(engine, container, "destroy", BTreeMap::new());
    container.pulse.send_modify(|pulse| {
        pulse.removed = true;
        pulse.running = false;
    });
    berth_sys::fail_point("container.remove.told");
    remove_volumes(engine, volumes).await;
    Ok(())
}

/// Takes it out of sight; the record last, and `volumes` with it.
fn delete(engine: &Engine, container: &Container, volumes: &[String]) -> Result<Condemned> {
    let condemned = engine.0.store.snapshots().condemn(&container.id)?;
    berth_sys::fail_point("container.remove.condemned");
    let mut batch = Batch::default();
    batch.remove(Kind::Container, &container.id);
    for exec in engine.0.execs.of(&container.id) {
        batch.remove(Kind::Exec, &exec);
    }
    let others_have = |name: &str| {
        let users = volume::users(engine, name);
        users.iter().any(|user| *user != container.id)
    };
    engine.0.volumes.give_up_with(batch, volumes, others_have)?;
    berth_sys::fail_point("container.remove.recorded");
    Ok(condemned)
}

/// Takes what is left off the machine, one container after the other and while nobody waits. Until
/// then the trash and the directory of its task tell the next start of it.
fn sweep(engine: &Engine, container: &Arc<Container>, condemned: Condemned) {
    let (engine, container) = (engine.clone(), container.clone());
    let sweeps = engine.0.sweeps.clone();
    sweeps.spawn(async move {
        let _turn = engine.0.turn.lock().await;
        let (parts, id) = (engine.clone(), container.id.clone());
        let swept = blocking(move || {
            condemned.finish()?;
            berth_sys::fail_point("container.remove.files");
            // Its shim has removed it, unless it was killed.
            let path = container.read(|r| parts.cgroup_path(r));
            if let Ok(group) = parts.0.cgroups.open(&path) {
                group
                    .remove()
                    .map_err(|e| Error::internal(format!("cgroup: {e}")))?;
            }
            berth_sys::fail_point("container.remove.cgroup");
            match std::fs::remove_dir_all(parts.task_dir(&container.id)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io("cannot remove its directory of the run", e))
                }
                _ => Ok(()),
            }
        });
        if let Err(error) = swept.await {
            tracing::warn!(container.id = %id, %error, "something of a removed container is left");
        }
    });
}

/// The volumes that were made for a container.
fn anonymous_volumes(container: &Container) -> Vec<String> {
    container.read(|r| {
        let own = r.mounts.iter();
        own.filter(|m| m.kind == MountKind::Volume && m.anonymous)
            .map(|m| m.name.clone())
            .collect()
    })
}

/// Removes those volumes of a container that is gone that no other uses.
async fn remove_volumes(engine: &Engine, names: Vec<String>) {
    for name in names {
        match volume::remove_unused(engine, &name).await {
            Ok(()) => {}
            // Another container has it, or somebody has removed it.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => tracing::warn!(volume = %name, %error, "a volume could not be removed"),
        }
    }
}
