//! Joining a sandbox to a network, and leaving it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::mac::MacAddr;
use crate::names::Names;
use crate::nft::Batch;
use crate::nft::ruleset::EndpointRules;
use crate::options::NetworkOptions;
use crate::port::{PortBinding, PublishedPort};
use crate::record::{Driver, Endpoint, EndpointRequest, NetworkRecord};
use crate::route::{self, Route};
use crate::state::{
    Member, Network, OPTION_BINDING, OPTION_MTU, Room, State, Veth, endpoint_rules, isolated,
    new_id, ruleset,
};
use crate::veth::{self, Plan};
use crate::{Error, Result, macvlan, netns, sysctl};

/// Most aliases of one endpoint, and ports of one request: bounds for what a client may ask.
const MOST_ALIASES: usize = 1024;
const MOST_PORTS: usize = 65536;

/// What the kernel is asked for, all decided.
struct Wish {
    network: NetworkRecord,
    bridge: u32,
    mtu: u32,
    isolated: bool,
    ip: Ipv4Addr,
    prefix_len: u8,
    ipv6: Option<Ipv6Net>,
    mac: MacAddr,
    /// Set if the default route shall lead through here.
    route: Option<Ipv4Addr>,
    route6: Option<Ipv6Addr>,
}

/// MTU in bytes of a network.
pub(crate) fn mtu(record: &NetworkRecord, default: u32) -> u32 {
    record
        .options
        .get(OPTION_MTU)
        .and_then(|text| text.parse().ok())
        .filter(|mtu| (68..=65535).contains(mtu))
        .unwrap_or(default)
}

/// Joins the sandbox to the network; all or nothing.
pub(crate) fn attach(
    state: &mut State,
    (names, options): (&Names, &NetworkOptions),
    sandbox_id: &str,
    network: &str,
    request: EndpointRequest,
) -> Result<Endpoint> {
    let record = state.joinable(network)?.record.clone();
    check(state, sandbox_id, &record, &request)?;
    let id = new_id()?;
    let (ip, ipv6) = give_addresses(state, &record, &request)?;
    let undo_address = |state: &mut State| free_addresses(state, &record.id, ip, ipv6);
    // Nothing is published where no packet passes the host's rules.
    let bindings = if record.internal || record.driver == Driver::Macvlan {
        &[][..]
    } else {
        &request.ports
    };
    let default = default_binding(&record, options);
    let ports = match state.claims.claim(&id, bindings, (default, ipv6.is_some())) {
        Ok(ports) => ports,
        Err(e) => {
            undo_address(state);
            return Err(e);
        }
    };
    let wish = Wish {
        bridge: state.networks.get(&record.id).map_or(0, |n| n.bridge),
        mtu: mtu(&record, state.mtu),
        isolated: isolated(&record, options),
        ip,
        prefix_len: record.subnet.map_or(32, |s| s.prefix_len()),
        ipv6,
        mac: request.mac.unwrap_or_else(|| MacAddr::from_ipv4(ip)),
        route: record
            .gateway
            .filter(|_| request.default_route && !record.internal),
        route6: record
            .gateway6
            .filter(|_| request.default_route && !record.internal),
        network: record.clone(),
    };
    match join(
        state,
        (names, options),
        sandbox_id,
        &wish,
        (id.clone(), request, ports.clone()),
    ) {
        Ok(endpoint) => Ok(endpoint),
        Err(e) => {
            state.claims.release(&id, &ports);
            undo_address(state);
            Err(e)
        }
    }
}

fn check(
    state: &State,
    sandbox_id: &str,
    record: &NetworkRecord,
    request: &EndpointRequest,
) -> Result<()> {
    let room = state
        .rooms
        .get(sandbox_id)
        .ok_or_else(|| Error::SandboxNotFound(sandbox_id.to_owned()))?;
    if room
        .members
        .iter()
        .any(|m| m.endpoint.network_id == record.id)
    {
        return Err(Error::Forbidden(format!(
            "endpoint with name {} already exists in network {}",
            request.container_name, record.name
        )));
    }
    if record.name == "bridge" && (request.ip.is_some() || request.ip6.is_some()) {
        return Err(Error::Invalid(
            "user specified IP address is supported on user defined networks only".into(),
        ));
    }
    if request.aliases.len() > MOST_ALIASES || request.ports.len() > MOST_PORTS {
        return Err(Error::Invalid(format!(
            "too many aliases or ports for network {}",
            record.name
        )));
    }
    let taken = request.mac.is_some_and(|mac| {
        state
            .endpoints(&record.id)
            .any(|endpoint| endpoint.mac == mac)
    });
    if taken {
        return Err(Error::Conflict(format!(
            "MAC address already in use in network {}",
            record.name
        )));
    }
    request.ports.iter().try_for_each(check_port)
}

pub(crate) fn check_port(binding: &PortBinding) -> Result<()> {
    if binding.container_port == 0 {
        return Err(Error::Invalid("invalid containerPort: 0".into()));
    }
    match binding.host_ip {
        Some(IpAddr::V6(ip)) if ip.is_multicast() => Err(Error::Invalid(format!(
            "invalid host address for a port: {ip}"
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn default_binding(record: &NetworkRecord, options: &NetworkOptions) -> Option<IpAddr> {
    record
        .options
        .get(OPTION_BINDING)
        .and_then(|text| text.parse().ok())
        .or(options.default_binding)
        // All of IPv4 as a default is what Docker says for "everywhere".
        .filter(|ip| *ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// An address of each kind that the network has.
fn give_addresses(
    state: &mut State,
    record: &NetworkRecord,
    request: &EndpointRequest,
) -> Result<(Ipv4Addr, Option<Ipv6Net>)> {
    let missing = || Error::AddressesExhausted(record.name.clone());
    let network = state.networks.get_mut(&record.id).ok_or_else(missing)?;
    let addresses = network.addresses.as_mut().ok_or_else(missing)?;
    let ip = match request.ip {
        Some(ip) => addresses.take(ip.into()).map(|()| ip),
        None => addresses.next_v4(&record.name),
    }?;
    let ip6 = match (&mut network.addresses6, request.ip6) {
        (None, None) => return Ok((ip, None)),
        (None, Some(ip6)) => Err(Error::Invalid(format!(
            "invalid endpoint settings: no configured subnet contains IP address {ip6}"
        ))),
        (Some(addresses), Some(ip6)) => addresses.take(ip6.into()).map(|()| ip6),
        (Some(addresses), None) => addresses.next_v6(&record.name),
    };
    let given = ip6.map(|ip6| {
        let len = record.subnet6.map_or(128, |s| s.prefix_len());
        (ip, Ipv6Net::new(ip6, len).ok())
    });
    if given.is_err() {
        addresses.free(ip.into());
    }
    given
}

fn free_addresses(state: &mut State, network_id: &str, ip: Ipv4Addr, ipv6: Option<Ipv6Net>) {
    let Some(network) = state.networks.get_mut(network_id) else {
        return;
    };
    if let Some(addresses) = &mut network.addresses {
        addresses.free(ip.into());
    }
    if let (Some(addresses), Some(ipv6)) = (&mut network.addresses6, ipv6) {
        addresses.free(ipv6.addr().into());
    }
}

/// Brings the kernel to what is wished and records it.
fn join(
    state: &mut State,
    (names, options): (&Names, &NetworkOptions),
    sandbox_id: &str,
    wish: &Wish,
    (id, request, ports): (String, EndpointRequest, Vec<PublishedPort>),
) -> Result<Endpoint> {
    let missing = || Error::SandboxNotFound(sandbox_id.to_owned());
    let default_bridge = state.network("bridge").map_or(0, |n| n.bridge);
    let State { rooms, route, .. } = state;
    let room = rooms.get_mut(sandbox_id).ok_or_else(missing)?;
    let veth = interface(names, wish, room, route, default_bridge)?;
    let endpoint = Endpoint {
        id,
        network_id: wish.network.id.clone(),
        sandbox_id: sandbox_id.to_owned(),
        container_id: request.container_id,
        container_name: request.container_name,
        aliases: request.aliases,
        interface: veth.inside.clone(),
        host_interface: veth.host.clone(),
        mac: wish.mac,
        ip: wish.ip,
        prefix_len: wish.prefix_len,
        gateway: wish.network.gateway.filter(|_| !wish.network.internal),
        ipv6: wish.ipv6.map(IpNet::V6),
        gateway6: wish
            .network
            .gateway6
            .filter(|_| wish.ipv6.is_some() && !wish.network.internal),
        ports,
        default_route: wish.route.is_some(),
        dns: request.dns,
    };
    let place = room.sandbox.netns();
    berth_sys::fail_point("network.attach.interface");
    let done = configure((place, &mut room.route), route, &veth, wish).and_then(|()| {
        if veth.host.is_empty() {
            return Ok(());
        }
        let rules = endpoint_rules(&wish.network.bridge, &endpoint);
        add_rules(state, names, options, &rules)
    });
    if let Err(e) = done {
        remove_interface(state, sandbox_id, &veth);
        return Err(e);
    }
    berth_sys::fail_point("network.attach.rules");
    state.open_doors(&endpoint);
    let room = state.rooms.get_mut(sandbox_id).ok_or_else(missing)?;
    if endpoint.default_route {
        for member in &mut room.members {
            member.endpoint.default_route = false;
        }
    }
    room.members.push(Member {
        endpoint: endpoint.clone(),
        veth,
        mended: None,
    });
    Ok(endpoint)
}

/// Adds the rules of an endpoint; builds all rules again first, if others have just taken them away.
fn add_rules(
    state: &mut State,
    names: &Names,
    options: &NetworkOptions,
    rules: &EndpointRules,
) -> Result<()> {
    let add = |state: &mut State| {
        let mut batch = Batch::new();
        ruleset(names).add_endpoint(&mut batch, rules);
        state.commit(batch)
    };
    match add(state) {
        Err(Error::Kernel { source, .. }) if route::is_gone(&source) => {
            state.replace_rules(names, options)?;
            add(state)
        }
        other => other,
    }
}

/// Removes an endpoint's interface, of which there may be but the end inside.
pub(crate) fn remove_interface(state: &mut State, sandbox_id: &str, veth: &Veth) {
    if !veth.host.is_empty() {
        veth::remove(&mut state.route, &veth.host);
    } else if let Some(room) = state.rooms.get_mut(sandbox_id)
        && let Err(e) = room
            .route
            .batch(vec![route::delete_link(veth.inside_index)])
        && !route::is_gone(&e)
    {
        tracing::warn!("cannot remove the interface {}: {e}", veth.inside);
    }
}

/// The veth for a new endpoint: the one made ahead, if it is unused, or a new one.
fn interface(
    names: &Names,
    wish: &Wish,
    room: &mut Room,
    route: &mut Route,
    default_bridge: u32,
) -> Result<Veth> {
    if wish.network.driver == Driver::Macvlan {
        let inside = free_name(room);
        let plan = macvlan::Plan {
            parent: wish.bridge,
            mode: macvlan::mode(&wish.network)?,
            inside: &inside,
            netns: room.sandbox.netns(),
        };
        return macvlan::make(&plan, route, &mut room.route);
    }
    if let Some(veth) = room.spare.take() {
        if wish.bridge != default_bridge {
            let moved = route.batch(vec![
                route::set_bridge(veth.host_index, wish.bridge),
                route::port_up(&veth.host, wish.isolated),
            ]);
            if let Err(e) = moved {
                veth::remove(route, &veth.host);
                let attempt = format!("move the interface {} to its bridge", veth.host);
                return Err(Error::kernel(attempt, e));
            }
        }
        return Ok(veth);
    }
    let inside = free_name(room);
    let plan = Plan {
        host: None,
        bridge: wish.bridge,
        inside: &inside,
        netns: room.sandbox.netns(),
        mtu: wish.mtu,
        isolated: wish.isolated,
    };
    veth::make(names, &plan, route, &mut room.route)
}

/// A name that no interface of the sandbox's has.
fn free_name(room: &Room) -> String {
    let used = room.members.iter().map(|m| &m.veth).chain(&room.spare);
    let used: Vec<_> = used.map(|veth| veth.inside.as_str()).collect();
    let mut names = (0..).map(|n| format!("eth{n}"));
    names
        .find(|name| !used.contains(&name.as_str()))
        .unwrap_or_default()
}

/// Gives a veth its addresses and, if wished, the default route.
fn configure(
    (place, inside): (BorrowedFd<'_>, &mut Route),
    host: &mut Route,
    veth: &Veth,
    wish: &Wish,
) -> Result<()> {
    let on = |e: io::Error| {
        let attempt = format!("give {} the address {}", veth.inside, wish.ip);
        Error::kernel(attempt, e)
    };
    let net = Ipv4Net::new(wish.ip, wish.prefix_len)
        .map_err(|_| Error::Invalid(format!("invalid prefix length {}", wish.prefix_len)))?;
    let mut requests = vec![route::set_mac(veth.inside_index, wish.mac)];
    if veth.host.is_empty() {
        requests.push(route::set_up(veth.inside_index));
    } else {
        host.batch(vec![route::pin(veth.host_index, wish.mac)])
            .map_err(on)?;
    }
    requests.push(route::add_address(veth.inside_index, net));
    requests.extend(
        wish.route
            .map(|gateway| route::add_default_route(veth.inside_index, gateway)),
    );
    inside.batch(requests).map_err(on)?;
    let Some(ipv6) = wish.ipv6 else {
        return Ok(());
    };
    // Only now, so that the link-local address is made of the Ethernet address.
    let setting = format!("ipv6/conf/{}/disable_ipv6", veth.inside);
    let on6 = |e: io::Error| {
        let attempt = format!("give {} the address {ipv6}", veth.inside);
        Error::kernel(attempt, e)
    };
    netns::enter(place, || sysctl::set(&setting, "0")).map_err(on6)?;
    let mut requests = vec![route::add_address6(veth.inside_index, ipv6)];
    requests.extend(
        wish.route6
            .map(|gateway| route::add_default_route6(veth.inside_index, gateway)),
    );
    inside.batch(requests).map_err(on6)
}

/// Makes an endpoint's veth again, as it was.
pub(crate) fn mend(
    room: &mut Room,
    at: usize,
    network: &Network,
    host: &mut Route,
    (names, options, mtu_default): (&Names, &NetworkOptions, u32),
) -> Result<()> {
    let Room {
        sandbox,
        route,
        members,
        ..
    } = room;
    let Some(Member { endpoint, veth, .. }) = members.get_mut(at) else {
        return Ok(());
    };
    let wish = Wish {
        network: network.record.clone(),
        bridge: network.bridge,
        mtu: mtu(&network.record, mtu_default),
        isolated: isolated(&network.record, options),
        ip: endpoint.ip,
        prefix_len: endpoint.prefix_len,
        ipv6: match endpoint.ipv6 {
            Some(IpNet::V6(net)) => Some(net),
            _ => None,
        },
        mac: endpoint.mac,
        route: endpoint.gateway.filter(|_| endpoint.default_route),
        route6: endpoint.gateway6.filter(|_| endpoint.default_route),
    };
    let plan = Plan {
        host: Some(&endpoint.host_interface),
        bridge: wish.bridge,
        inside: &endpoint.interface,
        netns: sandbox.netns(),
        mtu: wish.mtu,
        isolated: wish.isolated,
    };
    *veth = veth::make(names, &plan, host, route)?;
    configure((sandbox.netns(), route), host, veth, &wish)
}

/// Takes the sandbox out of a network; gives what was there, whose interface still is.
pub(crate) fn detach(
    state: &mut State,
    names: &Names,
    sandbox_id: &str,
    network: &str,
) -> Result<Member> {
    let (id, name) = {
        let record = &state.network(network)?.record;
        (record.id.clone(), record.name.clone())
    };
    let room = state
        .rooms
        .get_mut(sandbox_id)
        .ok_or_else(|| Error::SandboxNotFound(sandbox_id.to_owned()))?;
    let at = room
        .members
        .iter()
        .position(|m| m.endpoint.network_id == id)
        .ok_or_else(|| {
            Error::Invalid(format!(
                "container {sandbox_id} is not connected to network {name}"
            ))
        })?;
    let member = room.members.remove(at);
    let lost_route = member.endpoint.default_route;
    forget(state, names, std::slice::from_ref(&member));
    if lost_route {
        elect_route(state, sandbox_id);
    }
    Ok(member)
}

/// Frees addresses and ports and takes back the rules of these endpoints.
pub(crate) fn forget(state: &mut State, names: &Names, members: &[Member]) {
    let mut batch = Batch::new();
    for Member { endpoint, .. } in members.iter().filter(|m| !m.veth.host.is_empty()) {
        let rules = endpoint_rules(&state.bridge_name(&endpoint.network_id), endpoint);
        ruleset(names).remove_endpoint(&mut batch, &rules);
    }
    if !batch.is_empty()
        && let Err(e) = state.commit(batch)
    {
        // Others removed some of our rules: the watcher puts them back, without these endpoints.
        tracing::debug!("{e}");
    }
    for Member { endpoint, .. } in members {
        state.doors.close(&endpoint.id);
        state.claims.release(&endpoint.id, &endpoint.ports);
        let ipv6 = match endpoint.ipv6 {
            Some(IpNet::V6(net)) => Some(net),
            _ => None,
        };
        free_addresses(state, &endpoint.network_id, endpoint.ip, ipv6);
    }
}

/// Leads the default route through another endpoint of the sandbox.
fn elect_route(state: &mut State, sandbox_id: &str) {
    let Some(room) = state.rooms.get_mut(sandbox_id) else {
        return;
    };
    let Some((member, gateway)) = room
        .members
        .iter_mut()
        .find_map(|m| m.endpoint.gateway.map(|gateway| (m, gateway)))
    else {
        return;
    };
    let link = member.veth.inside_index;
    let mut requests = vec![route::add_default_route(link, gateway)];
    let gateway6 = member.endpoint.gateway6;
    requests.extend(gateway6.map(|gateway| route::add_default_route6(link, gateway)));
    match room.route.batch(requests) {
        Ok(()) => member.endpoint.default_route = true,
        Err(e) => tracing::warn!("cannot set the default route of sandbox {sandbox_id}: {e}"),
    }
}
