//! inspect: all that is known of an image.

use berth_spec::docker::config::HealthConfig;
use berth_spec::docker::container::GraphDriver;
use berth_spec::docker::image::{ImageConfig, ImageMetadata, RootFs};
use berth_spec::docker::{Empty, ImageInspect, Words};
use berth_spec::oci::image::ExecConfig;
use berth_spec::{Digest, Reference};

use crate::crossing::blocking;
use crate::{Engine, Result, time};

/// Describes an image.
pub async fn inspect(engine: &Engine, name: &str) -> Result<ImageInspect> {
    let (store, name) = (engine.0.store.clone(), name.to_owned());
    let image = blocking(move || store.images().resolve(&name)).await?;
    let config = &image.config;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect();
    Ok(ImageInspect {
        id: image.id.to_string(),
        repo_tags: familiar(&image.tags),
        repo_digests: familiar(&image.digests),
        parent: image
            .parent
            .as_ref()
            .map(Digest::to_string)
            .unwrap_or_default(),
        comment: match &config.comment {
            Some(comment) => comment.clone(),
            // Docker shows that of the last step.
            None => config
                .history
                .last()
                .map(|h| text(&h.comment))
                .unwrap_or_default(),
        },
        created: text(&config.created),
        author: text(&config.author),
        config: exec_config(&config.config),
        architecture: config.architecture.clone(),
        variant: text(&config.variant),
        os: config.os.clone(),
        os_version: text(&config.os_version),
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        graph_driver: GraphDriver {
            data: Some(std::collections::BTreeMap::new()),
            name: "overlay2".to_owned(),
        },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.layers().iter().map(Digest::to_string).collect(),
        },
        metadata: ImageMetadata {
            last_tag_time: time::text(image.last_tagged),
        },
        ..ImageInspect::default()
    })
}

fn exec_config(config: &ExecConfig) -> ImageConfig {
    let words = |words: &Option<Vec<String>>| words.clone().map(Words);
    let set = |set: &Option<std::collections::BTreeMap<String, _>>| {
        set.iter()
            .flatten()
            .map(|(key, _): (&String, &berth_spec::oci::image::Empty)| (key.clone(), Empty {}))
            .collect()
    };
    ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        args_escaped: config.args_escaped.unwrap_or(false),
        healthcheck: config.healthcheck.as_ref().map(|h| HealthConfig {
            test: h.test.clone(),
            interval: h.interval,
            timeout: h.timeout,
            start_period: h.start_period,
            start_interval: h.start_interval,
            retries: h.retries,
        }),
        on_build: config.on_build.clone().unwrap_or_default(),
        shell: words(&config.shell),
    }
}
