//! The image's configuration and the engine's defaults below what was asked for.

use std::collections::BTreeMap;

use berth_spec::docker::config::HealthConfig;
use berth_spec::docker::{ContainerConfig, Empty, HostConfig, Words};
use berth_spec::oci::image::ImageConfig;

use super::{Defaults, env};

/// Fills in what the engine decides where the host part says nothing.
pub(super) fn fill_host(host: &mut HostConfig, defaults: &Defaults) {
    if host.log_config.kind.is_empty() {
        host.log_config.kind.clone_from(&defaults.log.kind);
        for (name, value) in &defaults.log.config {
            let option = host.log_config.config.entry(name.clone());
            option.or_insert_with(|| value.clone());
        }
    }
    if host.network_mode.is_empty() || host.network_mode == "default" {
        host.network_mode = "bridge".to_owned();
    }
    if host.shm_size == 0 {
        host.shm_size = defaults.shm_size;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".to_owned();
    }
    if host.cgroupns_mode.is_empty() {
        let private = defaults.cgroup_v2 && !host.privileged;
        host.cgroupns_mode = if private { "private" } else { "host" }.to_owned();
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".to_owned();
    }
    if host.runtime.is_empty() {
        host.runtime.clone_from(&defaults.runtime);
    }
    if host.init.is_none() && defaults.init {
        host.init = Some(true);
    }
    // What Docker hides and protects is said in the record, so that inspect shows it.
    if host.privileged {
        host.masked_paths = None;
        host.readonly_paths = None;
    } else {
        host.masked_paths
            .get_or_insert_with(berth_runtime::defaults::masked_paths);
        host.readonly_paths
            .get_or_insert_with(berth_runtime::defaults::readonly_paths);
    }
    super::adapt_limits(host);
}

fn words(words: Option<&Vec<String>>) -> Option<Words> {
    words.map(|words| Words(words.clone()))
}

/// Puts the image's configuration below the container's (moby `daemon/commit.go`, `merge`).
pub(super) fn merge_image(config: &mut ContainerConfig, image: &ImageConfig) {
    let below = &image.config;
    if config.user.is_empty() {
        config.user.clone_from(&below.user);
    }
    for port in below.exposed_ports.iter().flat_map(BTreeMap::keys) {
        config.exposed_ports.insert(port.clone(), Empty {});
    }
    let mut env = config.env.take().unwrap_or_default();
    env::underlay(&mut env, &below.env);
    config.env = Some(env);
    for (name, value) in below.labels.iter().flatten() {
        let labels = config.labels.get_or_insert_default();
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let empty = |words: &Option<Words>| words.as_ref().is_none_or(|w| w.0.is_empty());
    if empty(&config.entrypoint) {
        if empty(&config.cmd) {
            config.cmd = words(below.cmd.as_ref());
            config.args_escaped = below.args_escaped.unwrap_or(false);
        }
        if config.entrypoint.is_none() {
            config.entrypoint = words(below.entrypoint.as_ref());
        }
    }
    if let Some(probe) = &below.healthcheck {
        merge_health(config.healthcheck.get_or_insert_default(), probe);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&below.working_dir);
    }
    for path in below.volumes.iter().flat_map(BTreeMap::keys) {
        let volumes = config.volumes.get_or_insert_default();
        volumes.insert(path.clone(), Empty {});
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = below.stop_signal.clone().unwrap_or_default();
    }
    if config.shell.is_none() {
        config.shell = words(below.shell.as_ref());
    }
}

fn merge_health(probe: &mut HealthConfig, below: &berth_spec::oci::image::Healthcheck) {
    if probe.test.is_empty() {
        probe.test.clone_from(&below.test);
    }
    for (value, below) in [
        (&mut probe.interval, below.interval),
        (&mut probe.timeout, below.timeout),
        (&mut probe.start_period, below.start_period),
        (&mut probe.start_interval, below.start_interval),
        (&mut probe.retries, below.retries),
    ] {
        if *value == 0 {
            *value = below;
        }
    }
}

/// What remains to be said of the container's own part.
pub(super) fn finish_config(config: &mut ContainerConfig, host: &HostConfig, id: &str) {
    // An entrypoint of one empty word resets that of the image.
    if config.entrypoint.as_ref().is_some_and(|e| e.0 == [""]) {
        config.entrypoint = None;
    }
    if config.hostname.is_empty() && host.uts_mode != "host" && host.network_mode != "host" {
        config.hostname = id.chars().take(12).collect();
    }
    config.env.get_or_insert_default();
    config.labels.get_or_insert_default();
    // The client sends an empty one; Docker shows none.
    config.volumes.take_if(|volumes| volumes.is_empty());
    // Exposed ports include those that are published.
    for port in host.port_bindings.iter().flat_map(BTreeMap::keys) {
        let port = if port.contains('/') {
            port.clone()
        } else {
            format!("{port}/tcp")
        };
        config.exposed_ports.insert(port, Empty {});
    }
}

/// What a commit asks for, over the container's own configuration.
pub(crate) fn merge_committed(config: &mut ContainerConfig, own: &ContainerConfig) {
    let empty = |words: &Option<Words>| words.as_ref().is_none_or(|w| w.0.is_empty());
    if config.user.is_empty() {
        config.user.clone_from(&own.user);
    }
    for port in own.exposed_ports.keys() {
        config.exposed_ports.insert(port.clone(), Empty {});
    }
    let mut env = config.env.take().unwrap_or_default();
    env::underlay(&mut env, own.env.as_deref().unwrap_or_default());
    config.env = Some(env);
    for (name, value) in own.labels.iter().flatten() {
        let labels = config.labels.get_or_insert_default();
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if empty(&config.entrypoint) {
        if empty(&config.cmd) {
            config.cmd.clone_from(&own.cmd);
        }
        config.entrypoint.clone_from(&own.entrypoint);
    }
    if config.healthcheck.is_none() {
        config.healthcheck.clone_from(&own.healthcheck);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&own.working_dir);
    }
    for path in own.volumes.iter().flat_map(BTreeMap::keys) {
        let volumes = config.volumes.get_or_insert_default();
        volumes.insert(path.clone(), Empty {});
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&own.stop_signal);
    }
    if config.shell.is_none() {
        config.shell.clone_from(&own.shell);
    }
    if config.on_build.is_none() {
        config.on_build.clone_from(&own.on_build);
    }
}
