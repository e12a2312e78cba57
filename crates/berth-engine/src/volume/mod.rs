//! Volumes: directories that outlive containers.

pub(crate) mod registry;

use std::collections::BTreeMap;

use berth_spec::docker::volume::{VolumeList, VolumeUsage, VolumesPruned};
use berth_spec::docker::{Volume, VolumeCreateBody};
use berth_store::disk;

use crate::container::plan::MountKind;
use crate::crossing::blocking;
use crate::event::Subject;
use crate::{Engine, Error, Filters, Result, random, time};
use registry::{ANONYMOUS, VolumeRecord};

/// IDs of the containers that use a volume.
pub(crate) fn users(engine: &Engine, name: &str) -> Vec<String> {
    let uses = |c: &std::sync::Arc<crate::container::record::Container>| {
        c.read(|r| {
            r.mounts
                .iter()
                .any(|m| m.kind == MountKind::Volume && m.name == name)
        })
    };
    engine
        .0
        .containers
        .all()
        .iter()
        .filter(|c| uses(c))
        .map(|c| c.id.clone())
        .collect()
}

fn tell(engine: &Engine, action: &str, name: &str) {
    let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
    engine
        .0
        .events
        .tell(Subject::Volume, action, name, attributes);
}

/// Makes a volume, or answers the one of that name.
pub async fn create(engine: &Engine, body: VolumeCreateBody) -> Result<Volume> {
    let mut body = body;
    let anonymous = body.name.is_empty();
    if anonymous {
        body.name = random::id();
    }
    let made = engine.clone();
    let (record, fresh) = blocking(move || {
        let volume = made.0.volumes.create(&body, anonymous)?;
        // Not even a power cut takes what has been acknowledged.
        made.0.db.sync()?;
        berth_sys::fail_point("volume.create.done");
        Ok::<_, Error>(volume)
    })
    .await?;
    if fresh {
        tell(engine, "create", &record.name);
    }
    Ok(engine.0.volumes.describe(&record, None))
}

/// Lists volumes.
pub async fn list(engine: &Engine, filters: Filters) -> Result<VolumeList> {
    filters.allow(&["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.truth("dangling")?;
    let volumes = engine
        .0
        .volumes
        .all()
        .into_iter()
        .filter(|v| {
            filters.contained("name", &v.name)
                && filters.exact("driver", "local")
                && filters.labels(&v.labels)
                && dangling.is_none_or(|d| users(engine, &v.name).is_empty() == d)
        })
        .map(|v| engine.0.volumes.describe(&v, None))
        .collect();
    Ok(VolumeList {
        volumes,
        warnings: None,
    })
}

/// Describes a volume.
pub async fn inspect(engine: &Engine, name: &str) -> Result<Volume> {
    let record = engine.0.volumes.get(name)?;
    Ok(engine.0.volumes.describe(&record, None))
}

/// Removes a volume that no container uses. With `force`, one that is not there is no error.
pub async fn remove(engine: &Engine, name: &str, force: bool) -> Result<()> {
    match engine.0.volumes.get(name) {
        Ok(_) => {}
        Err(_) if force => return Ok(()),
        Err(error) => return Err(error),
    }
    engine.make_way();
    remove_unused(engine, name).await
}

/// Removes a volume, in Docker's words where a container has it.
pub(crate) async fn remove_unused(engine: &Engine, name: &str) -> Result<()> {
    let (volumes, gone) = (engine.clone(), name.to_owned());
    blocking(move || {
        let users = || users(&volumes, &gone);
        volumes.0.volumes.remove(&gone, users)?;
        berth_sys::fail_point("volume.remove.done");
        volumes.0.db.sync()
    })
    .await?;
    tell(engine, "destroy", name);
    Ok(())
}

/// Removes anonymous volumes (all, with the filter `all=true`) that no container uses.
pub async fn prune(engine: &Engine, filters: Filters) -> Result<VolumesPruned> {
    filters.allow(&["all", "label", "label!", "until"])?;
    let all = filters.truth("all")?.unwrap_or(false);
    let until = time::until(&filters)?;
    engine.make_way();
    let mut pruned = VolumesPruned::default();
    let chosen = |v: &VolumeRecord| {
        (all || v.labels.contains_key(ANONYMOUS))
            && filters.labels(&v.labels)
            && until.is_none_or(|until| v.created <= until)
    };
    for volume in engine.0.volumes.all().into_iter().filter(chosen) {
        if !users(engine, &volume.name).is_empty() {
            continue;
        }
        let size = size_of(engine, &volume.name).await;
        match remove_unused(engine, &volume.name).await {
            Ok(()) => {
                pruned.space_reclaimed += size;
                let deleted = pruned.volumes_deleted.get_or_insert_default();
                deleted.push(volume.name);
            }
            // It came into use meanwhile.
            Err(error) => tracing::debug!(volume = %volume.name, %error, "not pruned"),
        }
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
    engine
        .0
        .events
        .tell(Subject::Volume, "prune", "", attributes);
    Ok(pruned)
}

/// Bytes on disk of a volume.
async fn size_of(engine: &Engine, name: &str) -> u64 {
    let data = engine.0.volumes.data(name);
    blocking(move || Ok::<_, Error>(disk::bytes_on_disk(&data)))
        .await
        .unwrap_or(0)
}

/// All volumes with what they cost, for `system df`.
pub(crate) async fn with_usage(engine: &Engine) -> Vec<Volume> {
    let mut volumes = Vec::new();
    for record in engine.0.volumes.all() {
        let size = size_of(engine, &record.name).await;
        let usage = VolumeUsage {
            ref_count: users(engine, &record.name).len() as i64,
            size: i64::try_from(size).unwrap_or(i64::MAX),
        };
        volumes.push(engine.0.volumes.describe(&record, Some(usage)));
    }
    volumes
}
