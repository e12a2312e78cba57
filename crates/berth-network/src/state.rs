//! What an engine knows of its networks and sandboxes: the wish that the kernel is made to agree with.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddrV4;
use std::time::Instant;

use crate::addresses::Addresses;
use crate::claim::Claims;
use crate::names::Names;
use crate::nft::ruleset::{EndpointRules, NetworkRules, Ruleset};
use crate::nft::{Batch, Nft};
use crate::options::NetworkOptions;
use crate::port::{Protocol, PublishedPort};
use crate::proxy::Doors;
use crate::record::{Driver, Endpoint, NetworkRecord};
use crate::route::Route;
use crate::sandbox::Sandbox;
use crate::{Error, Result};

/// Driver option of the networks' and Docker's: whether endpoints may talk to each other.
pub(crate) const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
/// Whether packets on their way out take the host's address.
pub(crate) const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// MTU in bytes.
pub(crate) const OPTION_MTU: &str = "com.docker.network.driver.mtu";
/// Interface name of the bridge.
pub(crate) const OPTION_BRIDGE: &str = "com.docker.network.bridge.name";
/// Host address for bindings without one.
pub(crate) const OPTION_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";

/// Link that a `macvlan` network's interfaces are on, and how they see each other.
pub(crate) const OPTION_PARENT: &str = "parent";
pub(crate) const OPTION_MACVLAN_MODE: &str = "macvlan_mode";

/// A veth pair. One without a name on the host is an interface inside alone.
#[derive(Debug, Clone)]
pub(crate) struct Veth {
    /// Name of the host's end.
    pub host: String,
    /// Its number.
    pub host_index: u32,
    /// Name of the end inside.
    pub inside: String,
    /// Its number, in the sandbox.
    pub inside_index: u32,
}

/// A sandbox just made. Its veth, if it has one, is a port of the default bridge, up and without an address.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub sandbox: Sandbox,
    pub route: Route,
    pub veth: Option<Veth>,
}

/// A sandbox in use.
#[derive(Debug)]
pub(crate) struct Room {
    pub sandbox: Sandbox,
    /// Speaks to the kernel about what is inside.
    pub route: Route,
    /// A veth not yet used by an endpoint.
    pub spare: Option<Veth>,
    pub members: Vec<Member>,
}

/// An endpoint and its veth.
#[derive(Debug)]
pub(crate) struct Member {
    pub endpoint: Endpoint,
    pub veth: Veth,
    /// When the veth was made again after others had removed it.
    pub mended: Option<Instant>,
}

/// A network in use.
#[derive(Debug)]
pub(crate) struct Network {
    pub record: NetworkRecord,
    /// None of a network without a subnet.
    pub addresses: Option<Addresses>,
    /// None of a network without IPv6.
    pub addresses6: Option<Addresses>,
    /// Number of the bridge, or of the parent; 0 without one.
    pub bridge: u32,
}

/// Everything, under one lock: calls into the kernel made with it held take well under a millisecond.
#[derive(Debug)]
pub(crate) struct State {
    pub networks: BTreeMap<String, Network>,
    pub rooms: HashMap<String, Room>,
    pub claims: Claims,
    pub doors: Doors,
    pub nft: Nft,
    pub route: Route,
    /// MTU in bytes for networks that do not say.
    pub mtu: u32,
    /// No change is made any more.
    pub closed: bool,
}

fn option_is(record: &NetworkRecord, option: &str, default: bool) -> bool {
    match record.options.get(option).map(String::as_str) {
        Some("true" | "1") => true,
        Some("false" | "0") => false,
        _ => default,
    }
}

/// Whether the endpoints of a network may talk to each other.
pub(crate) fn icc(record: &NetworkRecord, options: &NetworkOptions) -> bool {
    let default = record.name != "bridge" || options.icc;
    option_is(record, OPTION_ICC, default)
}

/// Whether the bridge itself keeps the ports of a network apart. Where bridged packets pass the IP hooks, the rules do:
/// a bridge would also stop what was published, since such packets do not leave it there.
pub(crate) fn isolated(record: &NetworkRecord, options: &NetworkOptions) -> bool {
    !icc(record, options) && !crate::bridge::passes_ip_hooks()
}

/// What the rules know of a network.
pub(crate) fn network_rules(record: &NetworkRecord, options: &NetworkOptions) -> NetworkRules {
    let default = record.name != "bridge" || options.masquerade;
    NetworkRules {
        bridge: record.bridge.clone(),
        internal: record.internal,
        masquerade: option_is(record, OPTION_MASQUERADE, default),
        icc: icc(record, options),
    }
}

/// What the rules know of an endpoint of that network.
pub(crate) fn endpoint_rules(bridge: &str, endpoint: &Endpoint) -> EndpointRules {
    EndpointRules {
        bridge: bridge.to_owned(),
        port: endpoint.host_interface.clone(),
        mac: endpoint.mac,
        ip: endpoint.ip,
        ip6: endpoint.ip6(),
        published: endpoint.ports.clone(),
    }
}

/// The rules' names.
pub(crate) fn ruleset(names: &Names) -> Ruleset<'_> {
    Ruleset {
        table: &names.table,
        veth_prefix: &names.veth_prefix,
    }
}

impl State {
    /// The network of this name, ID or unambiguous start of an ID.
    pub(crate) fn network(&self, name_or_id: &str) -> Result<&Network> {
        let missing = || Error::NetworkNotFound(name_or_id.to_owned());
        if let Some(network) = self
            .networks
            .values()
            .find(|n| n.record.name == name_or_id)
            .or_else(|| self.networks.get(name_or_id))
        {
            return Ok(network);
        }
        if name_or_id.is_empty() {
            return Err(missing());
        }
        let mut found = self
            .networks
            .values()
            .filter(|n| n.record.id.starts_with(name_or_id));
        match (found.next(), found.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => Err(Error::Invalid(format!(
                "network {name_or_id} is ambiguous: several networks have IDs that begin so"
            ))),
            _ => Err(missing()),
        }
    }

    /// The same, of a network that endpoints can be made in.
    pub(crate) fn joinable(&self, name_or_id: &str) -> Result<&Network> {
        let network = self.network(name_or_id)?;
        match network.record.driver {
            Driver::Bridge | Driver::Macvlan => Ok(network),
            driver => Err(Error::Invalid(format!(
                "network {} has the driver {:?}: a sandbox cannot join it",
                network.record.name,
                driver.as_str()
            ))),
        }
    }

    /// Endpoints of a network.
    pub(crate) fn endpoints<'a>(
        &'a self,
        network_id: &'a str,
    ) -> impl Iterator<Item = &'a Endpoint> {
        self.rooms
            .values()
            .flat_map(|room| &room.members)
            .map(|member| &member.endpoint)
            .filter(move |endpoint| endpoint.network_id == network_id)
    }

    /// Leads the ports of an endpoint that are published on IPv6 addresses to it.
    pub(crate) fn open_doors(&mut self, endpoint: &Endpoint) {
        let carried = |p: &&PublishedPort| p.host_ip.is_ipv6() && p.protocol != Protocol::Sctp;
        for port in endpoint.ports.iter().filter(carried) {
            let Some(socket) = self.claims.take_socket(&endpoint.id, port) else {
                continue;
            };
            let to = SocketAddrV4::new(endpoint.ip, port.container_port);
            let opened = self.doors.open(&endpoint.id, port.protocol, socket, to);
            if let Err(e) = opened {
                tracing::warn!("{} does not lead to {to}: {e}", port.host());
            }
        }
    }

    /// Name of a network's bridge.
    pub(crate) fn bridge_name(&self, network_id: &str) -> String {
        self.networks
            .get(network_id)
            .map(|n| n.record.bridge.clone())
            .unwrap_or_default()
    }

    /// Makes changes to the rules, all or none.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<()> {
        self.nft.commit(batch).map_err(|(subject, source)| {
            Error::kernel(format!("change the packet rules ({subject})"), source)
        })
    }

    /// Lets packets of our bridges pass dockerd's policy: [`crate::forward_policy`]. Failing costs no more than that.
    pub(crate) fn pass_dockers_policy(&mut self, names: &Names) {
        let bridges: Vec<_> = self
            .networks
            .values()
            .filter(|n| n.record.driver == Driver::Bridge)
            .map(|n| n.record.bridge.clone())
            .collect();
        if let Err(e) = crate::forward_policy::ensure(&mut self.nft, names, &bridges) {
            tracing::warn!("containers may be cut off by the policy of dockerd: {e}");
        }
    }

    /// Rules for all networks and endpoints, in the place of what is there.
    pub(crate) fn replace_rules(&mut self, names: &Names, options: &NetworkOptions) -> Result<()> {
        let networks: Vec<_> = self
            .networks
            .values()
            .filter(|n| n.record.driver == Driver::Bridge)
            .map(|n| network_rules(&n.record, options))
            .collect();
        let endpoints: Vec<_> = self
            .rooms
            .values()
            .flat_map(|room| &room.members)
            // The others' packets do not pass the host's rules.
            .filter(|m| !m.veth.host.is_empty())
            .map(|m| endpoint_rules(&self.bridge_name(&m.endpoint.network_id), &m.endpoint))
            .collect();
        self.commit(ruleset(names).replace(&networks, &endpoints))
    }
}

/// 64 random hexadecimal digits.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0; 32];
    fill_random(&mut bytes)?;
    Ok(berth_spec::id::Id::from_bytes(&bytes).as_str().to_owned())
}

/// A random number.
pub(crate) fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn fill_random(bytes: &mut [u8]) -> Result<()> {
    // Up to 256 bytes come whole.
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())
        .map(drop)
        .map_err(|e| Error::kernel("get random bytes", io::Error::from(e)))
}
