//! inspect: all that is known of a container.

use std::collections::BTreeMap;

use berth_network::{Endpoint, SandboxRecord};
use berth_spec::docker::container::{
    ContainerState, GraphDriver, IdMappings, MountPoint, NetworkSettings,
};
use berth_spec::docker::{ContainerInspect, EndpointSettings, HostConfig, PortBinding, PortMap};

use super::host_files::HostFiles;
use super::plan::{MountKind, MountRecord, exposed, spec};
use super::record::Record;
use super::state::Status;
use super::{log_driver, log_file, plan};
use crate::crossing::blocking;
use crate::ids::IdMaps;
use crate::{Engine, Result, time};

/// Describes a container; its size on disk too, if asked for.
pub async fn inspect(engine: &Engine, id: &str, size: bool) -> Result<ContainerInspect> {
    let container = engine.0.containers.find(id)?;
    let record = container.snapshot();
    let execs: Vec<String> = container.live(|live| live.execs.iter().cloned().collect());
    let mut answer = describe(engine, &record);
    answer.exec_ids = (!execs.is_empty()).then_some(execs);
    if size {
        let (rw, root) = sizes(engine, &record).await?;
        answer.size_rw = Some(rw);
        answer.size_root_fs = Some(root);
    }
    Ok(answer)
}

/// Bytes of a container's own files, and of those with its image's.
pub(super) async fn sizes(engine: &Engine, record: &Record) -> Result<(i64, i64)> {
    let (engine, id, image) = (engine.clone(), record.id.clone(), record.image.clone());
    blocking(move || {
        let own = engine.0.store.snapshots().usage(&id)?;
        let image = match image.parse() {
            Ok(digest) => engine.0.store.images().get(&digest).map_or(0, |i| i.size),
            Err(_) => 0,
        };
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok::<_, crate::Error>((signed(own), signed(own + image)))
    })
    .await
}

fn describe(engine: &Engine, record: &Record) -> ContainerInspect {
    let dir = engine.container_dir(&record.id);
    let files = HostFiles::below(&dir);
    let mut command = spec::args(&record.config).into_iter();
    let started = record.life.started.is_some();
    let shown = |path: &std::path::Path| match started {
        true => path.display().to_string(),
        false => String::new(),
    };
    ContainerInspect {
        id: record.id.clone(),
        created: time::text(Some(record.created)),
        path: command.next().unwrap_or_default(),
        args: command.collect(),
        state: state(record),
        image: record.image.clone(),
        resolv_conf_path: shown(&files.resolv_conf),
        hostname_path: shown(&files.hostname),
        hosts_path: shown(&files.hosts),
        log_path: match log_driver::readable(&record.host.log_config) {
            false => String::new(),
            true => shown(&log_file::path(&record.id, &dir)),
        },
        name: format!("/{}", record.name),
        restart_count: record.life.restart_count,
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        host_config: shown_limits(record.host.clone()),
        graph_driver: GraphDriver {
            data: Some(BTreeMap::from([
                (
                    "UpperDir".to_owned(),
                    dir.join("upper").display().to_string(),
                ),
                ("WorkDir".to_owned(), dir.join("work").display().to_string()),
            ])),
            name: "overlay2".to_owned(),
        },
        mounts: mounts(engine, &record.mounts),
        config: record.config.clone(),
        network_settings: network_settings(engine, record),
        id_mappings: record
            .own_ids
            .as_ref()
            .or(record.ids.as_ref())
            .map(id_mappings),
        ..ContainerInspect::default()
    }
}

/// A limit of processes that was taken away is none, in Docker's eyes.
fn shown_limits(mut host: HostConfig) -> HostConfig {
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    host
}

fn id_mappings(maps: &IdMaps) -> IdMappings {
    IdMappings {
        uid_map: IdMaps::texts(&maps.uids),
        gid_map: IdMaps::texts(&maps.gids),
    }
}

fn state(record: &Record) -> ContainerState {
    let life = &record.life;
    let status = life.status;
    ContainerState {
        status: status.as_str().to_owned(),
        running: status.running(),
        paused: status == Status::Paused,
        restarting: status == Status::Restarting,
        oom_killed: life.oom_killed,
        dead: status == Status::Dead,
        pid: i64::from(life.pid),
        exit_code: life.exit_code,
        error: match life.error.as_str() {
            "" => life.cause.clone(),
            error => error.to_owned(),
        },
        started_at: time::text(life.started),
        finished_at: time::text(life.finished),
        health: record.health.clone(),
    }
}

/// The mounts of a container in the API's words.
pub(super) fn mounts(engine: &Engine, mounts: &[MountRecord]) -> Vec<MountPoint> {
    mounts
        .iter()
        .filter(|m| !m.unlisted)
        .map(|mount| {
            let volume = mount.kind == MountKind::Volume;
            MountPoint {
                kind: mount.kind.as_str().to_owned(),
                name: mount.name.clone(),
                source: match mount.kind {
                    MountKind::Volume => engine.0.volumes.data(&mount.name).display().to_string(),
                    _ => mount.source.clone(),
                },
                destination: mount.target.clone(),
                driver: if volume {
                    "local".to_owned()
                } else {
                    String::new()
                },
                mode: mount.mode.clone(),
                rw: !mount.read_only,
                propagation: mount.propagation.clone(),
            }
        })
        .collect()
}

fn network_settings(engine: &Engine, record: &Record) -> NetworkSettings {
    let networks = networks(engine, record);
    let main = networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: record
            .sandbox
            .as_ref()
            .map(|s| s.id.clone())
            .unwrap_or_default(),
        sandbox_key: record.sandbox_key.clone(),
        ports: ports(record),
        endpoint_id: main.endpoint_id,
        gateway: main.gateway,
        global_ipv6_address: main.global_ipv6_address,
        global_ipv6_prefix_len: main.global_ipv6_prefix_len,
        ip_address: main.ip_address,
        ip_prefix_len: main.ip_prefix_len,
        ipv6_gateway: main.ipv6_gateway,
        mac_address: main.mac_address,
        networks,
        ..NetworkSettings::default()
    }
}

/// Each network of a container: what was asked, and while it runs what it got.
pub(super) fn networks(engine: &Engine, record: &Record) -> BTreeMap<String, EndpointSettings> {
    let endpoints = record.sandbox.iter().flat_map(|s| &s.endpoints);
    record
        .networks
        .iter()
        .map(|(name, asked)| {
            let known = engine.0.networks.get(name).ok();
            let endpoint = known
                .as_ref()
                .and_then(|n| endpoints.clone().find(|e| e.network_id == n.id));
            let id = known.as_ref().map(|n| n.id.as_str()).unwrap_or_default();
            (name.clone(), endpoint_settings(record, asked, id, endpoint))
        })
        .collect()
}

/// A container's place in one network.
pub(crate) fn endpoint_settings(
    record: &Record,
    asked: &EndpointSettings,
    network: &str,
    endpoint: Option<&Endpoint>,
) -> EndpointSettings {
    let mut settings = asked.clone();
    network.clone_into(&mut settings.network_id);
    let Some(endpoint) = endpoint else {
        return settings;
    };
    settings.endpoint_id.clone_from(&endpoint.id);
    settings.ip_address = endpoint.ip.to_string();
    settings.ip_prefix_len = endpoint.prefix_len;
    settings.gateway = endpoint.gateway.map(|g| g.to_string()).unwrap_or_default();
    settings.mac_address = endpoint.mac.to_string();
    if let Some(net) = endpoint.ipv6 {
        settings.global_ipv6_address = net.addr().to_string();
        settings.global_ipv6_prefix_len = net.prefix_len();
    }
    settings.ipv6_gateway = endpoint.gateway6.map(|g| g.to_string()).unwrap_or_default();
    if !endpoint.aliases.is_empty() {
        let mut names = vec![record.name.clone()];
        names.extend(endpoint.aliases.iter().cloned());
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        settings.dns_names = Some(names);
    }
    settings
}

/// The ports of a running container: where each is published, nothing for those only exposed.
fn ports(record: &Record) -> PortMap {
    let mut ports = PortMap::new();
    if !record.life.status.alive() {
        return ports;
    }
    for (port, protocol) in exposed(&record.config).unwrap_or_default() {
        ports.insert(format!("{port}/{protocol}"), None);
    }
    for published in published(record.sandbox.as_ref()) {
        let key = format!("{}/{}", published.container_port, published.protocol);
        ports
            .entry(key)
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: published.host_ip.to_string(),
                host_port: published.host_port.to_string(),
            });
    }
    ports
}

/// The published ports of a sandbox.
pub(super) fn published(sandbox: Option<&SandboxRecord>) -> Vec<berth_network::PublishedPort> {
    let mut ports: Vec<_> = sandbox
        .iter()
        .flat_map(|s| &s.endpoints)
        .flat_map(|e| e.ports.iter().copied())
        .collect();
    ports.sort_by_key(|p| (p.container_port, p.protocol, p.host_ip, p.host_port));
    ports
}

/// Whether a record's command has something in it; for lists.
pub(super) fn command(record: &Record) -> String {
    plan::spec::args(&record.config).join(" ")
}
