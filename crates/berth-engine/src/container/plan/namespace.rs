//! Which namespaces and networks a container shares.

use std::collections::BTreeMap;

use berth_spec::docker::{EndpointSettings, HostConfig, NetworkingConfig};

use crate::{Error, Result};

/// Where a container's packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkMode {
    /// A network of this name or ID; `bridge` is the default one.
    Network(String),
    /// Loopback only.
    None,
    /// The host's own.
    Host,
    /// That of the container of this name or ID.
    Container(String),
}

impl NetworkMode {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "default" | "bridge" => Ok(Self::Network("bridge".to_owned())),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            other => match other.strip_prefix("container:") {
                Some("") => Err(Error::invalid(
                    "Invalid container format container:<name|id>",
                )),
                Some(container) => Ok(Self::Container(container.to_owned())),
                None => Ok(Self::Network(other.to_owned())),
            },
        }
    }
}

/// A namespace of its own, the host's, or another container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JoinedMode {
    Private,
    Host,
    Container(String),
    /// IPC only: its own, without `/dev/shm`.
    Bare,
}

impl JoinedMode {
    /// Reads `--ipc`.
    pub fn ipc(text: &str) -> Result<Self> {
        match text {
            "" | "private" | "shareable" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            "none" => Ok(Self::Bare),
            other => Self::container(other, "IPC"),
        }
    }

    /// Reads `--pid`.
    pub fn pid(text: &str) -> Result<Self> {
        match text {
            "" | "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            other => Self::container(other, "PID"),
        }
    }

    fn container(text: &str, kind: &str) -> Result<Self> {
        match text.strip_prefix("container:") {
            Some(id) if !id.is_empty() => Ok(Self::Container(id.to_owned())),
            _ => Err(Error::invalid(format!("invalid {kind} mode: {text}"))),
        }
    }
}

/// In which user namespace a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsersMode {
    /// As the engine says.
    Default,
    Host,
    /// One with IDs that no other container has.
    Auto,
}

impl UsersMode {
    /// Reads `--userns`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" => Ok(Self::Default),
            "host" => Ok(Self::Host),
            "auto" => Ok(Self::Auto),
            other => Err(Error::invalid(format!("invalid USER mode: {other}"))),
        }
    }
}

/// The networks a container belongs to by name, each with what was asked of it.
pub(super) fn networks(
    host: &HostConfig,
    asked: NetworkingConfig,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mut asked: BTreeMap<String, EndpointSettings> = asked
        .endpoints_config
        .into_iter()
        .map(|(name, endpoint)| {
            let name = if name == "default" {
                "bridge".to_owned()
            } else {
                name
            };
            (name, endpoint.unwrap_or_default())
        })
        .collect();
    for (name, endpoint) in &asked {
        check_endpoint(name, endpoint)?;
    }
    let mode = NetworkMode::parse(&host.network_mode)?;
    let NetworkMode::Network(primary) = mode else {
        let name = match mode {
            NetworkMode::Host => "host",
            NetworkMode::None => "none",
            _ => "",
        };
        if asked.keys().any(|n| n != name) {
            return Err(Error::invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        let mut networks = BTreeMap::new();
        if !name.is_empty() {
            networks.insert(name.to_owned(), asked.remove(name).unwrap_or_default());
        }
        return Ok(networks);
    };
    let endpoint = asked.entry(primary.clone()).or_default();
    // Links are of old clients, which name them in the host part.
    if let Some(links) = &host.links
        && primary != "bridge"
        && endpoint.links.is_none()
    {
        endpoint.links = Some(links.clone());
    }
    if primary == "bridge" {
        let aliases = endpoint.aliases.as_ref().is_some_and(|a| !a.is_empty());
        if aliases {
            return Err(Error::invalid(
                "network-scoped alias is supported only for containers in user defined networks",
            ));
        }
        let fixed = endpoint
            .ipam_config
            .as_ref()
            .is_some_and(|i| !i.ipv4_address.is_empty() || !i.ipv6_address.is_empty());
        if fixed {
            return Err(Error::invalid(
                "user specified IP address is supported on user defined networks only",
            ));
        }
        if host.links.as_ref().is_some_and(|l| !l.is_empty()) {
            warnings.push("links of the default network give names in /etc/hosts only".to_owned());
        }
    }
    Ok(asked)
}

/// Checks what is asked of one network.
pub(crate) fn check_endpoint(name: &str, endpoint: &EndpointSettings) -> Result<()> {
    if let Some(ipam) = &endpoint.ipam_config {
        for (text, v4) in [(&ipam.ipv4_address, true), (&ipam.ipv6_address, false)] {
            let good = text.is_empty()
                || text
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|ip| ip.is_ipv4() == v4);
            if !good {
                let version = if v4 { "IPv4" } else { "IPv6" };
                return Err(Error::invalid(format!(
                    "invalid endpoint settings for network {name}: invalid {version} address: {text}"
                )));
            }
        }
    }
    if !endpoint.mac_address.is_empty() {
        endpoint
            .mac_address
            .parse::<berth_network::MacAddr>()
            .map_err(|e| Error::invalid(e.to_string()))?;
    }
    Ok(())
}
