//! Ports: exposed, published, asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use berth_network::{HostPort, PortBinding, Protocol};
use berth_spec::docker::{ContainerConfig, HostConfig};

use crate::{Error, Result};

fn refused(text: &str) -> Error {
    Error::invalid(format!("invalid port specification: {text:?}"))
}

/// Reads `80/tcp` or `80`.
pub(crate) fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port = port.parse::<u16>().map_err(|_| refused(text))?;
    if port == 0 {
        return Err(refused(text));
    }
    let protocol = protocol.to_ascii_lowercase();
    let protocol = protocol.parse().map_err(|_| {
        Error::invalid(format!(
            "invalid port specification: {text:?}: invalid proto: {protocol}"
        ))
    })?;
    Ok((port, protocol))
}

/// Reads `80-90/tcp` as all the ports of it.
fn parse_range(text: &str) -> Result<Vec<(u16, Protocol)>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let Some((low, high)) = ports.split_once('-') else {
        return Ok(vec![parse_port(text)?]);
    };
    let (low, protocol) = parse_port(&format!("{low}/{protocol}"))?;
    let (high, _) = parse_port(&format!("{high}/{protocol}"))?;
    if high < low {
        return Err(refused(text));
    }
    Ok((low..=high).map(|port| (port, protocol)).collect())
}

/// Reads a host port: empty or 0 for any, one, or `low-high`.
fn parse_host_port(text: &str) -> Result<HostPort> {
    let number = |part: &str| part.parse::<u16>().map_err(|_| refused(text));
    match text.split_once('-') {
        Some((low, high)) => {
            let (low, high) = (number(low)?, number(high)?);
            if low == 0 || high < low {
                return Err(refused(text));
            }
            Ok(HostPort::Range(low, high))
        }
        None if text.is_empty() => Ok(HostPort::Any),
        None => Ok(match number(text)? {
            0 => HostPort::Any,
            port => HostPort::Exact(port),
        }),
    }
}

/// The ports a container exposes.
pub(crate) fn exposed(config: &ContainerConfig) -> Result<BTreeSet<(u16, Protocol)>> {
    let mut ports = BTreeSet::new();
    for text in config.exposed_ports.keys() {
        ports.extend(parse_range(text)?);
    }
    Ok(ports)
}

/// What is to be published: each binding asked for, and with `-P` each exposed port that has none.
pub(crate) fn requested(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<PortBinding>> {
    let mut wanted = Vec::new();
    let mut bound: BTreeMap<(u16, Protocol), usize> = BTreeMap::new();
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = parse_port(text)?;
        for binding in bindings.iter().flatten() {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                // Docker reads these as "every address of this family".
                ip => Some(
                    ip.trim_start_matches('[')
                        .trim_end_matches(']')
                        .parse::<IpAddr>()
                        .map_err(|_| {
                            Error::invalid(format!("invalid IP address in port binding: {ip}"))
                        })?,
                ),
            };
            *bound.entry((container_port, protocol)).or_default() += 1;
            wanted.push(PortBinding {
                container_port,
                protocol,
                host_ip,
                host_port: parse_host_port(&binding.host_port)?,
            });
        }
        // A port without a binding is published at any host port with `-p 80`.
        if bindings.as_ref().is_some_and(Vec::is_empty) {
            *bound.entry((container_port, protocol)).or_default() += 1;
            wanted.push(PortBinding {
                container_port,
                protocol,
                host_ip: None,
                host_port: HostPort::Any,
            });
        }
    }
    if host.publish_all_ports {
        for (container_port, protocol) in exposed(config)? {
            if !bound.contains_key(&(container_port, protocol)) {
                wanted.push(PortBinding {
                    container_port,
                    protocol,
                    host_ip: None,
                    host_port: HostPort::Any,
                });
            }
        }
    }
    Ok(wanted)
}
