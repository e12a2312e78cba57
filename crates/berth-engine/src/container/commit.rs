//! commit: an image from a container.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_spec::docker::ContainerConfig;
use berth_spec::docker::container::CommitResponse;
use berth_spec::oci::image::{Empty, ExecConfig, Healthcheck, History, ImageConfig, RootFs};
use berth_spec::{Digest, Reference};
use berth_store::NewImage;
use jiff::Timestamp;

use super::pause;
use super::record::{Container, Record};
use super::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Error, Result, image};

/// The diff ID of a layer of nothing: the end of a tar.
const EMPTY_LAYER: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Edits the configuration of an image to be (`--change`); its error is the user's fault.
pub type ConfigEdit = Box<dyn FnOnce(&mut ExecConfig) -> Result<(), String> + Send>;

/// What is asked of [`commit`].
#[derive(Default)]
pub struct CommitRequest {
    /// Name or ID.
    pub container: String,
    /// The image's name; none where empty.
    pub repo: String,
    pub tag: String,
    pub comment: String,
    pub author: String,
    /// Pause the container meanwhile.
    pub pause: bool,
    /// Goes over the container's configuration.
    pub config: Option<ContainerConfig>,
    /// Applied last.
    pub edit: Option<ConfigEdit>,
}

/// Makes an image of a container's root and configuration.
pub async fn commit(engine: &Engine, request: CommitRequest) -> Result<CommitResponse> {
    engine.0.reserve.admit()?;
    let container = engine.0.containers.find(&request.container)?;
    let name = image::reference(&request.repo, &request.tag)?;
    let _key = container.key.lock().await;
    let freeze = request.pause && container.status() == Status::Running;
    if freeze {
        pause::freeze(engine, &container).await?;
    }
    let made = {
        let (engine, container) = (engine.clone(), container.clone());
        blocking(move || make(&engine, &container, request, name.as_ref())).await
    };
    if freeze {
        pause::thaw(engine, &container).await?;
    }
    let (id, name) = made?;
    let mut more = BTreeMap::from([("imageID".to_owned(), id.to_string())]);
    if let Some(name) = name {
        more.insert("imageRef".to_owned(), name.familiar());
    }
    super::tell(engine, &container, "commit", more);
    Ok(CommitResponse { id: id.to_string() })
}

fn make(
    engine: &Engine,
    container: &Arc<Container>,
    request: CommitRequest,
    name: Option<&Reference>,
) -> Result<(Digest, Option<Reference>)> {
    let record = container.snapshot();
    let store = &engine.0.store;
    let parent = record
        .image
        .parse()
        .ok()
        .and_then(|id| store.images().get(&id).ok());
    let below = parent
        .as_ref()
        .map(|p| (*p.config).clone())
        .unwrap_or_default();
    let mut config = request.config.unwrap_or_default();
    super::plan::merge_committed(&mut config, &record.config);
    let mut exec = exec_config(&config);
    if let Some(edit) = request.edit {
        edit(&mut exec).map_err(Error::invalid)?;
    }
    let lease = store.lease()?;
    let mut diff_ids = store.snapshots().layers(&record.id)?;
    let layer = store.snapshots().commit(&lease, &record.id)?;
    berth_sys::fail_point("container.commit.layer");
    // Nothing was written: the image has no layer more than its parent, as with Docker.
    let empty_layer = layer.diff_id.as_str() == EMPTY_LAYER;
    if !empty_layer {
        diff_ids.push(layer.diff_id);
    }
    let created = Timestamp::now().to_string();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut history = below.history.clone();
    history.push(History {
        created: Some(created.clone()),
        created_by: Some(super::inspect::command(&record)),
        author: some(&request.author),
        comment: some(&request.comment),
        empty_layer,
    });
    let image = ImageConfig {
        created: Some(created),
        author: some(&request.author),
        comment: some(&request.comment),
        config: exec,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids,
        },
        history,
        ..platform_of(below, &record)
    };
    let bytes = serde_json::to_vec(&image)
        .map_err(|e| Error::internal(format!("cannot write an image's configuration: {e}")))?;
    let added = store.images().add(
        &lease,
        NewImage {
            config: bytes,
            manifest: None,
            parent: parent.map(|p| p.id),
        },
    )?;
    if let Some(name) = name {
        image::point(engine, name, &added.id)?;
    }
    Ok((added.id, name.cloned()))
}

fn platform_of(below: ImageConfig, record: &Record) -> ImageConfig {
    let or = |text: String, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text
        }
    };
    ImageConfig {
        architecture: or(below.architecture, berth_store::platform::architecture()),
        os: or(below.os, &record.platform),
        variant: below.variant,
        ..ImageConfig::default()
    }
}

/// A container's configuration as an image carries it.
pub(crate) fn exec_config(config: &ContainerConfig) -> ExecConfig {
    let words = |w: &Option<berth_spec::docker::Words>| w.as_ref().map(|w| w.0.clone());
    let set = |keys: &BTreeMap<String, berth_spec::docker::Empty>| {
        (!keys.is_empty()).then(|| keys.keys().map(|k| (k.clone(), Empty {})).collect())
    };
    ExecConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone().unwrap_or_default(),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        healthcheck: config.healthcheck.as_ref().map(|h| Healthcheck {
            test: h.test.clone(),
            interval: h.interval,
            timeout: h.timeout,
            start_period: h.start_period,
            start_interval: h.start_interval,
            retries: h.retries,
        }),
        args_escaped: config.args_escaped.then_some(true),
        volumes: config.volumes.as_ref().and_then(set),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone().filter(|l| !l.is_empty()),
        stop_signal: (!config.stop_signal.is_empty()).then(|| config.stop_signal.clone()),
        on_build: config.on_build.clone().filter(|o| !o.is_empty()),
        shell: words(&config.shell),
    }
}
