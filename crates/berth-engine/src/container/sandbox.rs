//! Where a container's packets go: the sandbox and its endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use berth_network::{Endpoint, EndpointRequest, PortBinding, Sandbox, SandboxRecord};
use berth_spec::docker::EndpointSettings;

use super::launch::running;
use super::plan::{self, NetworkMode};
use super::record::Record;
use crate::undo::Undo;
use crate::{Engine, Error, Result};

/// The network side of a start.
pub(crate) struct Joined {
    /// None in the host's network.
    pub netns: Option<OwnedFd>,
    /// None where it is somebody else's.
    pub sandbox: Option<SandboxRecord>,
    pub sandbox_key: String,
}

/// Gets a sandbox for a container and puts it into its networks. `netns` is the namespace that came
/// with the container's user namespace.
pub(crate) fn join(
    engine: &Engine,
    record: &Record,
    mode: &NetworkMode,
    netns: Option<OwnedFd>,
    undo: &mut Undo,
) -> Result<Joined> {
    let networks = &engine.0.networks;
    let primary = match mode {
        NetworkMode::Host => {
            return Ok(Joined {
                netns: None,
                sandbox: None,
                sandbox_key: "/var/run/docker/netns/default".to_owned(),
            });
        }
        NetworkMode::Container(id) => {
            let other = running(engine, id, "network")?;
            let pid = other.task()?.pid();
            let path = format!("/proc/{pid}/ns/net");
            let netns = std::fs::File::open(&path)
                .map_err(|e| Error::io(format_args!("cannot open {path}"), e))?;
            return Ok(Joined {
                netns: Some(netns.into()),
                sandbox: None,
                sandbox_key: other.read(|r| r.sandbox_key.clone()),
            });
        }
        NetworkMode::None => None,
        NetworkMode::Network(name) => Some(name.as_str()),
    };
    let ready = primary == Some("bridge");
    let sandbox = match (netns, ready) {
        (Some(netns), _) => networks.sandbox_over(netns),
        (None, true) => networks.sandbox(),
        (None, false) => networks.sandbox_none(),
    }?;
    undo.push({
        let (engine, id) = (engine.clone(), sandbox.id().to_owned());
        move || Ok(engine.0.networks.release(&id)?)
    });
    let mut endpoints = Vec::new();
    for (name, request) in requests(engine, record, primary)? {
        let attached = networks.attach(&sandbox, &name, request);
        endpoints.push(attached.map_err(|e| not_attached(record, e))?);
    }
    Ok(Joined {
        netns: Some(
            sandbox
                .try_clone_netns()
                .map_err(|e| Error::io("cannot hand over a network sandbox", e))?,
        ),
        sandbox_key: sandbox.path().display().to_string(),
        sandbox: Some(SandboxRecord {
            id: sandbox.id().to_owned(),
            endpoints,
        }),
    })
}

/// Docker's words for a network that could not be joined, or a port that could not be published.
fn not_attached(record: &Record, error: berth_network::Error) -> Error {
    use berth_network::Error as Net;
    let ports = matches!(
        error,
        Net::PortAllocated(_) | Net::PortInUse { .. } | Net::PortsExhausted(..)
    );
    let mut error = Error::from(error);
    if ports {
        error = error.context(format_args!(
            "driver failed programming external connectivity on endpoint {} ({})",
            record.name, record.id
        ));
    }
    error.context("failed to set up container networking")
}

/// What is asked of each network, the one that carries the default route first.
fn requests(
    engine: &Engine,
    record: &Record,
    primary: Option<&str>,
) -> Result<Vec<(String, EndpointRequest)>> {
    let mut ports = plan::requested(&record.config, &record.host)?;
    let mut names: Vec<&String> = record.networks.keys().filter(|n| *n != "none").collect();
    // The highest priority first, then the network of the mode.
    names.sort_by_key(|name| {
        let priority = record.networks[*name].gw_priority;
        (-priority, Some(name.as_str()) != primary)
    });
    let mut requests = Vec::new();
    let mut routed = false;
    for name in names {
        let settings = &record.networks[name];
        let mut request = endpoint_request(engine, record, name, settings)?;
        // An internal network leads nowhere, and nothing is published in it.
        if !routed && !engine.0.networks.get(name)?.internal {
            routed = true;
            request.default_route = true;
            request.ports = std::mem::take(&mut ports);
        }
        requests.push((name.clone(), request));
    }
    Ok(requests)
}

/// What is asked of one network, without ports.
pub(crate) fn endpoint_request(
    engine: &Engine,
    record: &Record,
    network: &str,
    settings: &EndpointSettings,
) -> Result<EndpointRequest> {
    let user_defined = engine.0.networks.get(network)?.dns;
    let mut aliases = settings.aliases.clone().unwrap_or_default();
    if user_defined {
        aliases.push(record.id[..12].to_owned());
        if !record.config.hostname.is_empty() && !aliases.contains(&record.config.hostname) {
            aliases.push(record.config.hostname.clone());
        }
    }
    let fixed = settings.ipam_config.as_ref();
    let ip = match fixed.map(|i| i.ipv4_address.as_str()) {
        None | Some("") => None,
        Some(ip) => Some(
            ip.parse::<Ipv4Addr>()
                .map_err(|_| Error::invalid(format!("invalid IPv4 address: {ip}")))?,
        ),
    };
    let ip6 = match fixed.map(|i| i.ipv6_address.as_str()) {
        None | Some("") => None,
        Some(ip) => Some(
            ip.parse::<Ipv6Addr>()
                .map_err(|_| Error::invalid(format!("invalid IPv6 address: {ip}")))?,
        ),
    };
    let mac = match (
        settings.mac_address.as_str(),
        record.config.mac_address.as_str(),
    ) {
        ("", "") => None,
        ("", mac) | (mac, _) => Some(
            mac.parse()
                .map_err(|e: berth_network::Error| Error::invalid(e.to_string()))?,
        ),
    };
    let servers = match record.host.dns.as_deref() {
        None | Some([]) => &engine.0.settings.dns,
        Some(servers) => servers,
    };
    Ok(EndpointRequest {
        container_id: record.id.clone(),
        container_name: record.name.clone(),
        aliases,
        ip,
        ip6,
        mac,
        ports: Vec::<PortBinding>::new(),
        default_route: false,
        dns: servers
            .iter()
            .filter_map(|s| s.parse::<IpAddr>().ok())
            .collect(),
    })
}

/// Brings the endpoints of a record up to what they are now: a network that was joined or left may
/// have moved the default route.
pub(crate) fn refresh(engine: &Engine, sandbox: &mut SandboxRecord) {
    for endpoint in &mut sandbox.endpoints {
        let now = engine.0.networks.endpoints(&endpoint.network_id);
        let now = now
            .unwrap_or_default()
            .into_iter()
            .find(|e| e.id == endpoint.id);
        if let Some(now) = now {
            *endpoint = now;
        }
    }
}

/// A running container's sandbox, to join or leave networks with.
pub(crate) fn of(engine: &Engine, record: &Record) -> Result<Option<Sandbox>> {
    match &record.sandbox {
        Some(sandbox) => Ok(Some(engine.0.networks.find_sandbox(&sandbox.id)?)),
        None => Ok(None),
    }
}

/// Addresses of a container by network name, for names in files.
pub(super) fn addresses(sandbox: Option<&SandboxRecord>) -> BTreeMap<String, Vec<IpAddr>> {
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for endpoint in sandbox.iter().flat_map(|s| &s.endpoints) {
        let addresses = found.entry(endpoint.network_id.clone()).or_default();
        addresses.extend(addresses_of(endpoint));
    }
    found
}

/// Addresses of a container in one network.
pub(crate) fn addresses_of(endpoint: &Endpoint) -> Vec<IpAddr> {
    std::iter::once(IpAddr::V4(endpoint.ip))
        .chain(endpoint.ip6().map(IpAddr::V6))
        .collect()
}
