//! Ports of a container that are published and taken back while it runs, or before it does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use berth_network::{HostPort, PortBinding, Protocol, PublishedPort};
use berth_spec::docker::container::PublishChanges;
use berth_spec::docker::{ContainerConfig, HostConfig};

use super::plan::{NetworkMode, requested};
use super::record::{Container, Record};
use super::state::Status;
use super::{inspect, sandbox};
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Most ports that one request may name.
const MOST: usize = 65_536;

/// A host port as it is taken back: `8080`, `8080/udp`, `127.0.0.1:8080` or `[::1]:8080/tcp`.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    host_ip: Option<IpAddr>,
    host_port: u16,
    protocol: Protocol,
}

impl std::str::FromStr for Taken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("invalid published port: {text:?}"));
        let (host, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (ip, port) = match host.rsplit_once(':') {
            None => (None, host),
            Some((ip, port)) => {
                let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
                let ip = ip.unwrap_or_else(|| host.rsplit_once(':').map_or("", |(ip, _)| ip));
                (Some(ip.parse().map_err(|_| bad())?), port)
            }
        };
        let host_port = port.parse().map_err(|_| bad())?;
        if host_port == 0 {
            return Err(bad());
        }
        Ok(Self {
            host_ip: ip,
            host_port,
            protocol: protocol.parse().map_err(|_| bad())?,
        })
    }
}

impl Taken {
    fn is(&self, published: &PublishedPort) -> bool {
        self.protocol == published.protocol
            && self.host_port == published.host_port
            && self.host_ip.is_none_or(|ip| ip == published.host_ip)
    }

    fn was_asked(&self, binding: &PortBinding) -> bool {
        self.protocol == binding.protocol
            && binding.host_port == HostPort::Exact(self.host_port)
            && (self.host_ip.is_none() || self.host_ip == binding.host_ip)
    }
}

/// Takes ports back, then publishes others; all or nothing. What is asked of a container that does not run holds from its next
/// start on, and so does what is asked of one that does.
pub async fn publish(engine: &Engine, id: &str, changes: PublishChanges) -> Result<()> {
    let gone: Vec<Taken> = changes
        .publish_rm
        .iter()
        .flatten()
        .map(|text| text.parse())
        .collect::<Result<_>>()?;
    let wanted = HostConfig {
        port_bindings: Some(changes.publish_add),
        ..HostConfig::default()
    };
    let added = requested(&ContainerConfig::default(), &wanted)?;
    if gone.is_empty() && added.is_empty() {
        return Ok(());
    }
    if gone.len() + added.len() > MOST {
        return Err(Error::invalid("too many ports in one request"));
    }
    let container = engine.0.containers.find(id)?;
    let _key = container.key.lock().await;
    check(&container)?;
    let (engine_, changed) = (engine.clone(), container.clone());
    blocking(move || change(&engine_, &changed, &gone, &added)).await?;
    super::tell(engine, &container, "update", BTreeMap::new());
    Ok(())
}

fn check(container: &Container) -> Result<()> {
    let (status, mode) = container.read(|r| (r.life.status, r.host.network_mode.clone()));
    let id = &container.id;
    if matches!(status, Status::Removing | Status::Dead) {
        return Err(Error::conflict(format!(
            "Cannot update container {id}: Container is marked for removal and cannot be \"update\"."
        )));
    }
    match NetworkMode::parse(&mode)? {
        NetworkMode::Network(_) => Ok(()),
        NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => {
            Err(Error::invalid(format!(
                "Cannot update container {id}: ports are published of containers with a network of their own, not with --network {mode}"
            )))
        }
    }
}

fn change(
    engine: &Engine,
    container: &Arc<Container>,
    gone: &[Taken],
    added: &[PortBinding],
) -> Result<()> {
    let record = container.snapshot();
    // Before anything is touched.
    let bindings = bindings_after(&record, gone, added)?;
    let networks = &engine.0.networks;
    let endpoint = record
        .sandbox
        .iter()
        .flat_map(|s| &s.endpoints)
        .find(|e| e.default_route || !e.ports.is_empty());
    let Some(endpoint) = endpoint.filter(|_| record.life.status.alive()) else {
        if record.life.status.alive() && !added.is_empty() {
            return Err(Error::invalid(format!(
                "Cannot update container {}: it is in no network that leads out",
                container.id
            )));
        }
        return container.change(&engine.0.db, |r| bindings.put(r));
    };
    let back: Vec<_> = endpoint
        .ports
        .iter()
        .filter(|port| gone.iter().any(|g| g.is(port)))
        .copied()
        .collect();
    if !back.is_empty() {
        networks.unpublish(&endpoint.id, &back)?;
    }
    let restore = || {
        let again: Vec<_> = back.iter().map(as_it_was).collect();
        if let Err(error) = networks.publish(&endpoint.id, &again) {
            tracing::warn!(container.id = %container.id, %error, "ports that were to stay are lost");
        }
    };
    let now = match networks.publish(&endpoint.id, added) {
        Ok(now) => now,
        Err(error) => {
            restore();
            return Err(Error::from(error)
                .context(format_args!("Cannot update container {}", container.id)));
        }
    };
    let kept = container.change(&engine.0.db, |r| {
        bindings.put(r);
        if let Some(sandbox) = &mut r.sandbox {
            sandbox::refresh(engine, sandbox);
        }
    });
    if let Err(error) = kept {
        let new = now.ports.iter().filter(|p| !endpoint.ports.contains(p));
        networks.unpublish(&endpoint.id, &new.copied().collect::<Vec<_>>())?;
        restore();
        return Err(error);
    }
    Ok(())
}

fn as_it_was(port: &PublishedPort) -> PortBinding {
    PortBinding {
        container_port: port.container_port,
        protocol: port.protocol,
        host_ip: Some(port.host_ip),
        host_port: HostPort::Exact(port.host_port),
    }
}

/// What the record says of ports once all is done.
struct Bindings(Vec<PortBinding>);

/// Without what is taken back. A port that was published anywhere, or in a range, is found by where it is now.
fn bindings_after(record: &Record, gone: &[Taken], added: &[PortBinding]) -> Result<Bindings> {
    let mut host = record.host.clone();
    host.publish_all_ports = false;
    let mut bindings = requested(&record.config, &host)?;
    let published = inspect::published(record.sandbox.as_ref());
    for taken in gone {
        let before = bindings.len();
        bindings.retain(|b| !taken.was_asked(b));
        let mut found = bindings.len() < before;
        for port in published.iter().filter(|p| taken.is(p)) {
            let by_place = bindings.iter().position(|b| {
                let exact = matches!(b.host_port, HostPort::Exact(_));
                b.container_port == port.container_port && b.protocol == port.protocol && !exact
            });
            if !found && let Some(at) = by_place {
                bindings.remove(at);
            }
            found = true;
        }
        if !found {
            return Err(Error::invalid(format!(
                "Cannot update container {}: port {}/{} of the host is not published to it",
                record.id, taken.host_port, taken.protocol
            )));
        }
    }
    bindings.extend_from_slice(added);
    Ok(Bindings(bindings))
}

impl Bindings {
    fn put(&self, record: &mut Record) {
        let mut map = berth_spec::docker::PortMap::new();
        for binding in &self.0 {
            let key = format!("{}/{}", binding.container_port, binding.protocol);
            record.config.exposed_ports.entry(key.clone()).or_default();
            let asked = berth_spec::docker::PortBinding {
                host_ip: binding.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                host_port: match binding.host_port {
                    HostPort::Any => String::new(),
                    HostPort::Exact(port) => port.to_string(),
                    HostPort::Range(low, high) => format!("{low}-{high}"),
                },
            };
            map.entry(key)
                .or_default()
                .get_or_insert_default()
                .push(asked);
        }
        record.host.port_bindings = Some(map);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_to_take_back() {
        let read = |text: &str| text.parse::<Taken>().ok();
        let taken = |host_ip: Option<&str>, host_port, protocol| {
            Some(Taken {
                host_ip: host_ip.map(|ip| ip.parse().unwrap()),
                host_port,
                protocol,
            })
        };
        assert_eq!(read("8080"), taken(None, 8080, Protocol::Tcp));
        assert_eq!(read("53/udp"), taken(None, 53, Protocol::Udp));
        assert_eq!(
            read("127.0.0.1:80"),
            taken(Some("127.0.0.1"), 80, Protocol::Tcp)
        );
        assert_eq!(
            read("[::1]:80/sctp"),
            taken(Some("::1"), 80, Protocol::Sctp)
        );
        for wrong in ["", "0", "x", "80/icmp", "a:80", "80:", "70000", "[::1:80"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
