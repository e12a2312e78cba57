//! What the resolver knows: the endpoints of the networks that the asking sandbox belongs to.

use std::net::IpAddr;

use crate::record::{Driver, Endpoint};
use crate::resolv_conf::EMBEDDED;
use crate::state::State;

/// Networks with names that a sandbox belongs to, in the order it joined them: ID, name, internal.
fn networks<'a>(
    state: &'a State,
    sandbox_id: &str,
) -> impl Iterator<Item = (&'a str, &'a str, bool)> {
    let members = state.rooms.get(sandbox_id).map(|room| &room.members);
    members
        .into_iter()
        .flatten()
        .filter_map(|member| state.networks.get(&member.endpoint.network_id))
        .filter(|network| network.record.dns)
        .map(|n| (&*n.record.id, &*n.record.name, n.record.internal))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn is_called(endpoint: &Endpoint, name: &str) -> bool {
    endpoint.container_name.eq_ignore_ascii_case(name)
        || endpoint
            .aliases
            .iter()
            .any(|a| a.eq_ignore_ascii_case(name))
        || short(&endpoint.container_id).eq_ignore_ascii_case(name)
}

/// Addresses of whoever is called `name` (or `name.network`) in the first network of the sandbox's that has one.
pub(super) fn addresses(state: &State, sandbox_id: &str, name: &str) -> Option<Vec<IpAddr>> {
    let qualified = name.rsplit_once('.');
    networks(state, sandbox_id).find_map(|(id, network, _)| {
        let within = qualified
            .filter(|(_, suffix)| suffix.eq_ignore_ascii_case(network))
            .map(|(first, _)| first);
        let mut found: Vec<_> = state
            .endpoints(id)
            .filter(|e| is_called(e, name) || within.is_some_and(|first| is_called(e, first)))
            .flat_map(|e| std::iter::once(IpAddr::V4(e.ip)).chain(e.ip6().map(IpAddr::V6)))
            .collect();
        found.sort();
        (!found.is_empty()).then_some(found)
    })
}

/// By which the host is known in every network that leads somewhere, unless a container has the name: Docker Desktop's.
const HOST: &str = "host.docker.internal";

/// Addresses of the host, if it is what is asked for: `given` ones, or those of the bridge that the sandbox's packets go to.
pub(super) fn host(
    state: &State,
    sandbox_id: &str,
    name: &str,
    given: &[IpAddr],
) -> Option<Vec<IpAddr>> {
    if !name.eq_ignore_ascii_case(HOST) {
        return None;
    }
    let members = &state.rooms.get(sandbox_id)?.members;
    let open = members.iter().filter_map(|member| {
        let record = &state.networks.get(&member.endpoint.network_id)?.record;
        (record.driver == Driver::Bridge && !record.internal).then_some(record)
    });
    let record = open.min_by_key(|record| !record.dns)?;
    if !given.is_empty() {
        return Some(given.to_vec());
    }
    let gateways = [
        record.gateway.map(IpAddr::V4),
        record.gateway6.map(IpAddr::V6),
    ];
    Some(gateways.into_iter().flatten().collect())
}

/// Name of the endpoint at this address, `container.network`.
pub(super) fn name_at(state: &State, sandbox_id: &str, ip: IpAddr) -> Option<String> {
    networks(state, sandbox_id).find_map(|(id, network, _)| {
        let is_there =
            |e: &&Endpoint| IpAddr::V4(e.ip) == ip || e.ip6().map(IpAddr::V6) == Some(ip);
        let endpoint = state.endpoints(id).find(is_there)?;
        Some(format!("{}.{network}", endpoint.container_name))
    })
}

/// Servers that the sandbox's other questions go to; `None` if they go nowhere, since all its networks are internal.
/// Empty means the engine's.
pub(super) fn servers(state: &State, sandbox_id: &str) -> Option<Vec<IpAddr>> {
    let room = state.rooms.get(sandbox_id)?;
    let open = room.members.iter().any(|member| {
        let network = state.networks.get(&member.endpoint.network_id);
        network.is_some_and(|n| !n.record.internal)
    });
    open.then(|| {
        let given = room.members.iter().find(|m| !m.endpoint.dns.is_empty());
        let servers = given.map_or(&[][..], |m| &m.endpoint.dns);
        usable(servers)
    })
}

/// Without the resolver itself.
pub(super) fn usable(servers: &[IpAddr]) -> Vec<IpAddr> {
    let own = IpAddr::V4(EMBEDDED);
    servers.iter().copied().filter(|ip| *ip != own).collect()
}
