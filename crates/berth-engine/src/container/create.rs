//! create: a request becomes a record and a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_spec::docker::{ContainerCreateBody, ContainerCreateResponse};
use berth_spec::id::parse_name;
use berth_store::Image;
use jiff::Timestamp;

use super::plan::{self, MountKind, MountRecord, NetworkMode, Prepared, UsersMode};
use super::record::{Container, Life, Record};
use super::{cdi, foreign, init, names, volumes};
use crate::crossing::blocking;
use crate::event::Subject;
use crate::ids::Promise;
use crate::undo::Undo;
use crate::{Engine, Error, ErrorKind, Result, random};

/// What is asked of [`create`].
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Made up where it is absent.
    pub name: Option<String>,
    /// `os/arch[/variant]` that the image must have.
    pub platform: Option<String>,
    pub body: ContainerCreateBody,
}

/// Makes a container that does not run yet.
pub async fn create(engine: &Engine, request: CreateRequest) -> Result<ContainerCreateResponse> {
    let engine = engine.clone();
    blocking(move || create_now(&engine, request)).await
}

fn create_now(engine: &Engine, request: CreateRequest) -> Result<ContainerCreateResponse> {
    let CreateRequest {
        name,
        platform,
        body,
    } = request;
    let name = match name.filter(|n| !n.is_empty()) {
        Some(name) => Some(
            parse_name(&name)
                .map_err(|e| Error::invalid(e.to_string()))?
                .to_owned(),
        ),
        None => None,
    };
    engine.0.reserve.admit()?;
    let id = random::id();
    let image = match body.config.image.as_str() {
        "" => return Err(Error::invalid("no image specified")),
        image => find_image(engine, image, platform.as_deref())?,
    };
    cdi::check(&body.host_config, &engine.0.settings.cdi_dirs)?;
    create_of(engine, name, id, image, body).map_err(|error| match error.kind() {
        // Clients take "not found" for the image, and would pull it.
        ErrorKind::NotFound => Error::invalid(error.to_string()),
        _ => error,
    })
}

fn create_of(
    engine: &Engine,
    name: Option<String>,
    id: String,
    image: Image,
    mut body: ContainerCreateBody,
) -> Result<ContainerCreateResponse> {
    // The layers must not go between here and the snapshot that needs them.
    let lease = engine.0.store.lease()?;
    for layer in image.layers() {
        lease.hold_layer(layer);
    }
    resolve_containers(engine, &mut body)?;
    let from = volumes_from(engine, &body)?;
    let mut prepared = plan::prepare(&id, body, Some(&image.config), &engine.0.defaults)?;
    check_runtime(engine, &prepared)?;
    for network in prepared.networks.keys() {
        engine.0.networks.get(network)?;
    }
    for mount in from {
        if !prepared
            .mounts
            .iter()
            .any(|m| m.target == mount.target && !m.anonymous)
        {
            prepared.mounts.retain(|m| m.target != mount.target);
            prepared.mounts.push(mount);
        }
    }
    let name = name.unwrap_or_else(|| names::free_name(&engine.0.containers));
    engine.0.containers.reserve(&name, &id)?;
    berth_sys::fail_point("container.create.reserved");
    let made = own_ids(engine, &prepared)
        .and_then(|promise| make(engine, &id, &name, &image, prepared, promise));
    if made.is_err() {
        engine.0.containers.free(&name, &id);
    }
    let (container, warnings, promise) = made?;
    drop(lease);
    crate::image::budget::note_use(engine, &image.id)?;
    engine.0.containers.insert(container.clone());
    // Its record tells of them now.
    drop(promise);
    // The container itself says what it uses by now.
    engine.0.volumes.let_go(&id)?;
    berth_sys::fail_point("container.create.done");
    super::tell(engine, &container, "create", BTreeMap::new());
    Ok(ContainerCreateResponse { id, warnings })
}

fn find_image(engine: &Engine, name: &str, platform: Option<&str>) -> Result<Image> {
    let image = engine.0.store.images().resolve(name)?;
    if let Some(asked) = platform.filter(|p| !p.is_empty()) {
        let has = format!("{}/{}", image.config.os, image.config.architecture);
        let mut parts = asked.split('/');
        let (os, architecture) = (parts.next().unwrap_or(""), parts.next());
        let same = match architecture {
            Some(architecture) => has == format!("{os}/{architecture}"),
            None => os == image.config.os || os == image.config.architecture,
        };
        if !same {
            return Err(Error::not_found(format!(
                "image with reference {name} was found but its platform ({has}) does not match the specified platform ({asked})"
            )));
        }
    }
    Ok(image)
}

/// Modes that name a container name its whole ID from here on.
fn resolve_containers(engine: &Engine, body: &mut ContainerCreateBody) -> Result<()> {
    let host = &mut body.host_config;
    for mode in [
        &mut host.network_mode,
        &mut host.pid_mode,
        &mut host.ipc_mode,
    ] {
        if let Some(name) = mode.strip_prefix("container:").filter(|n| !n.is_empty()) {
            let container = engine.0.containers.find(name)?;
            *mode = format!("container:{}", container.id);
        }
    }
    if matches!(
        NetworkMode::parse(&host.network_mode)?,
        NetworkMode::Container(_)
    ) {
        // It has the host name of the container whose network it shares.
        body.networking_config.endpoints_config.clear();
    }
    Ok(())
}

fn volumes_from(engine: &Engine, body: &ContainerCreateBody) -> Result<Vec<MountRecord>> {
    let mut mounts = Vec::new();
    for text in body.host_config.volumes_from.iter().flatten() {
        let (name, read_only) = plan::parse_volumes_from(text)?;
        let container = engine.0.containers.find(name)?;
        for mut mount in container.read(|r| r.mounts.clone()) {
            if matches!(mount.kind, MountKind::Bind | MountKind::Volume) {
                mount.read_only |= read_only;
                // It belongs to the container it was made for.
                mount.anonymous = false;
                mounts.push(mount);
            }
        }
    }
    Ok(mounts)
}

fn check_runtime(engine: &Engine, prepared: &Prepared) -> Result<()> {
    let runtime = prepared.host.runtime.as_str();
    let foreign = foreign::find(runtime, &engine.0.settings.runtimes)?;
    if prepared.host.init == Some(true) {
        init::check(engine.0.settings.init_path.as_deref(), foreign.is_some())?;
    }
    Ok(())
}

/// A port that others do not reach should not be a riddle.
fn forbidden_forwarding(engine: &Engine) -> Option<String> {
    let chains = engine.0.networks.forbidding_chains();
    (!chains.is_empty()).then(|| {
        format!(
            "The host's firewall drops forwarded packets by policy ({}): published ports are reached from this host, and from other machines only as far as its rules accept them.",
            chains.join(", ")
        )
    })
}

type Made<'a> = (Arc<Container>, Vec<String>, Option<Promise<'a>>);

/// IDs of its own for a container that asks for them.
fn own_ids<'a>(engine: &'a Engine, prepared: &Prepared) -> Result<Option<Promise<'a>>> {
    if UsersMode::parse(&prepared.host.userns_mode)? != UsersMode::Auto {
        return Ok(None);
    }
    let recorded = || {
        let all = engine.0.containers.all();
        all.iter()
            .filter_map(|c| c.read(|r| r.own_ids.clone()))
            .collect()
    };
    engine.0.auto_ids.take(recorded).map(Some)
}

fn make<'a>(
    engine: &Engine,
    id: &str,
    name: &str,
    image: &Image,
    prepared: Prepared,
    promise: Option<Promise<'a>>,
) -> Result<Made<'a>> {
    let Prepared {
        config,
        host,
        networks,
        mut mounts,
        mut warnings,
    } = prepared;
    if host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        warnings.extend(forbidden_forwarding(engine));
    }
    let mut undo = Undo::new();
    let snapshots = engine.0.store.snapshots();
    undo.push({
        let (engine, id) = (engine.clone(), id.to_owned());
        move || {
            engine.0.store.snapshots().remove(&id)?;
            match std::fs::remove_dir_all(engine.container_dir(&id)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io("cannot remove the container's directory", e))
                }
                _ => Ok(()),
            }
        }
    });
    snapshots.create(id, image.layers())?;
    berth_sys::fail_point("container.create.snapshot");
    volumes::make(engine, id, image, &mut mounts, &mut undo)?;
    berth_sys::fail_point("container.create.volumes");
    let record = Record {
        id: id.to_owned(),
        name: name.to_owned(),
        created: Timestamp::now(),
        image: image.id.to_string(),
        platform: image.config.os.clone(),
        config,
        host,
        networks,
        mounts,
        life: Life::default(),
        own_ids: promise.as_ref().map(|promise| promise.maps.clone()),
        ..Record::default()
    };
    engine.0.volumes.keep_with(id, &record)?;
    berth_sys::fail_point("container.create.recorded");
    undo.keep();
    Ok((Arc::new(Container::new(record)), warnings, promise))
}

/// Tells of something that happened to a volume in use.
pub(super) fn tell_volume(engine: &Engine, action: &str, name: &str, more: &[(&str, &str)]) {
    let mut attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
    for (key, value) in more {
        attributes.insert((*key).to_owned(), (*value).to_owned());
    }
    engine
        .0
        .events
        .tell(Subject::Volume, action, name, attributes);
}
