//! What the engine keeps about networks and their members, as plain serializable data. Everything the kernel holds for a
//! network (bridge, rules, addresses) is derived from these records and built again from them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::mac::MacAddr;
use crate::port::{PortBinding, PublishedPort};

/// Who carries a network's packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge on the host.
    #[default]
    Bridge,
    /// Interfaces of their own on a link of the host's.
    Macvlan,
    /// The host's own network: no sandbox, no endpoint.
    Host,
    /// Loopback only.
    Null,
}

impl Driver {
    /// Docker's name of the driver.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// A request for a user-defined network.
#[derive(Debug, Clone, Default)]
pub struct NetworkSpec {
    /// Its name; letters, digits, `_`, `.` and `-`.
    pub name: String,
    /// `bridge` or `macvlan`.
    pub driver: Driver,
    /// Subnet to use; a free one of the pools if absent.
    pub subnet: Option<Ipv4Net>,
    /// Part of the subnet that addresses are given from.
    pub ip_range: Option<Ipv4Net>,
    /// Gateway; the first address of the subnet if absent.
    pub gateway: Option<Ipv4Addr>,
    /// Its endpoints have IPv6 addresses too.
    pub ipv6: bool,
    /// IPv6 subnet to use; if absent one of the pools, or of the range of unique local addresses that this engine has.
    pub subnet6: Option<Ipv6Net>,
    /// Part of it that addresses are given from.
    pub ip_range6: Option<Ipv6Net>,
    /// IPv6 gateway; the first address of the subnet if absent.
    pub gateway6: Option<Ipv6Addr>,
    /// Addresses never given out, by name.
    pub reserved: BTreeMap<String, IpAddr>,
    /// No way out of the network, and none in.
    pub internal: bool,
    /// Driver options (`com.docker.network.bridge.name`, `…enable_icc`, `…enable_ip_masquerade`, `com.docker.network.driver.mtu` …).
    pub options: BTreeMap<String, String>,
    /// Labels; never interpreted.
    pub labels: BTreeMap<String, String>,
}

/// A network as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// 64 hex digits.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// Seconds since 1970 (UTC) of creation.
    pub created: i64,
    /// Who carries it.
    pub driver: Driver,
    /// Interface name of the bridge on the host; empty without one.
    pub bridge: String,
    /// Subnet; absent for the `host` and `null` drivers.
    pub subnet: Option<Ipv4Net>,
    /// Part of the subnet that addresses are given from.
    pub ip_range: Option<Ipv4Net>,
    /// The bridge's own address.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 subnet; absent where endpoints have IPv4 alone.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// Part of it that addresses are given from.
    #[serde(default)]
    pub ip_range6: Option<Ipv6Net>,
    /// The bridge's own IPv6 address.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// Addresses never given out, by name.
    pub reserved: BTreeMap<String, IpAddr>,
    /// No way out of the network, and none in.
    pub internal: bool,
    /// Names are answered at 127.0.0.11 in its sandboxes (user-defined networks).
    pub dns: bool,
    /// Driver options as asked for.
    pub options: BTreeMap<String, String>,
    /// Labels as asked for.
    pub labels: BTreeMap<String, String>,
    /// The parent of a `macvlan` network was made for it and goes with it.
    #[serde(default)]
    pub made_parent: bool,
}

impl NetworkRecord {
    /// True of `bridge`, `host` and `none`, which cannot be removed.
    pub fn predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }
}

/// What a container asks of a network when it joins.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// ID of the container.
    pub container_id: String,
    /// Its name, without a slash.
    pub container_name: String,
    /// Further names by which it is found in this network.
    pub aliases: Vec<String>,
    /// A fixed address of the subnet.
    pub ip: Option<Ipv4Addr>,
    /// A fixed address of the IPv6 subnet.
    pub ip6: Option<Ipv6Addr>,
    /// A fixed Ethernet address.
    pub mac: Option<MacAddr>,
    /// Ports to publish.
    pub ports: Vec<PortBinding>,
    /// Whether this network carries the default route (the first one attached does).
    pub default_route: bool,
    /// Name servers that the resolver at 127.0.0.11 asks for this container (`--dns`); the host's if empty.
    pub dns: Vec<IpAddr>,
}

/// A container's membership of a network. The engine stores it and hands it back after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 64 hex digits.
    pub id: String,
    /// Network it belongs to.
    pub network_id: String,
    /// Sandbox it sits in.
    pub sandbox_id: String,
    /// Container it belongs to.
    pub container_id: String,
    /// The container's name.
    pub container_name: String,
    /// Further names by which it is found.
    pub aliases: Vec<String>,
    /// Interface inside the sandbox, `eth0` for the first.
    pub interface: String,
    /// The other end, a port of the bridge, on the host; empty of a `macvlan` network.
    pub host_interface: String,
    /// Ethernet address of `interface`.
    pub mac: MacAddr,
    /// Address.
    pub ip: Ipv4Addr,
    /// Length of the subnet's prefix, 0 to 32.
    pub prefix_len: u8,
    /// Default gateway; absent in an internal network.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address and prefix, on networks that have it.
    pub ipv6: Option<IpNet>,
    /// IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// Host ports that lead here.
    pub ports: Vec<PublishedPort>,
    /// Whether the sandbox's default route leads through here.
    pub default_route: bool,
    /// Name servers asked for by the container (`--dns`).
    pub dns: Vec<IpAddr>,
}

impl Endpoint {
    /// Its IPv6 address, without the prefix.
    pub fn ip6(&self) -> Option<Ipv6Addr> {
        match self.ipv6 {
            Some(IpNet::V6(net)) => Some(net.addr()),
            _ => None,
        }
    }
}

/// What is known of a sandbox that outlives the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// The sandbox's ID, as [`crate::Sandbox::id`] gave it.
    pub id: String,
    /// Its endpoints; none for mode `none`.
    pub endpoints: Vec<Endpoint>,
}

/// All that was recorded by an earlier engine of the same instance.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    /// Networks, the predefined ones included.
    pub networks: Vec<NetworkRecord>,
    /// Sandboxes of containers that still run.
    pub sandboxes: Vec<SandboxRecord>,
}
