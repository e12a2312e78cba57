//! Ports of a container that runs: published and taken back while it goes on.

use crate::names::Names;
use crate::nft::Batch;
use crate::options::NetworkOptions;
use crate::port::{PortBinding, PublishedPort};
use crate::record::{Driver, Endpoint};
use crate::state::{State, endpoint_rules, ruleset};
use crate::{Error, Result, attach};

/// Publishes more ports of an endpoint, all or none.
pub(crate) fn publish(
    state: &mut State,
    names: &Names,
    options: &NetworkOptions,
    endpoint_id: &str,
    bindings: &[PortBinding],
) -> Result<Endpoint> {
    let endpoint = find(state, endpoint_id)?.clone();
    let record = state.joinable(&endpoint.network_id)?.record.clone();
    if record.driver != Driver::Bridge {
        return Err(Error::Invalid(format!(
            "network {} has the driver {:?}: nothing of it can be published",
            record.name,
            record.driver.as_str()
        )));
    }
    if record.internal {
        return Err(Error::Invalid(format!(
            "network {} is internal: nothing of it can be published",
            record.name
        )));
    }
    bindings.iter().try_for_each(attach::check_port)?;
    let default = attach::default_binding(&record, options);
    let ways = (default, endpoint.ipv6.is_some());
    let added = state.claims.claim(endpoint_id, bindings, ways)?;
    let mut only_new = endpoint_rules(&record.bridge, &endpoint);
    only_new.published.clone_from(&added);
    let mut batch = Batch::new();
    ruleset(names).add_endpoint(&mut batch, &only_new);
    if let Err(e) = state.commit(batch) {
        state.claims.release(endpoint_id, &added);
        return Err(e);
    }
    let endpoint = find(state, endpoint_id)?;
    endpoint.ports.extend(added);
    let endpoint = endpoint.clone();
    state.open_doors(&endpoint);
    Ok(endpoint)
}

/// Takes back ports of an endpoint; those it does not have are not missed.
pub(crate) fn unpublish(
    state: &mut State,
    names: &Names,
    endpoint_id: &str,
    ports: &[PublishedPort],
) -> Result<Endpoint> {
    let endpoint = find(state, endpoint_id)?;
    let (gone, kept) = endpoint.ports.iter().partition(|p| ports.contains(p));
    let gone: Vec<PublishedPort> = gone;
    endpoint.ports = kept;
    let endpoint = endpoint.clone();
    let bridge = state.bridge_name(&endpoint.network_id);
    let mut batch = Batch::new();
    ruleset(names).remove_ports(&mut batch, &endpoint_rules(&bridge, &endpoint), &gone);
    state.commit(batch)?;
    for port in gone.iter().filter(|p| p.host_ip.is_ipv6()) {
        state.doors.close_one(endpoint_id, port);
    }
    state.claims.release(endpoint_id, &gone);
    Ok(endpoint)
}

fn find<'a>(state: &'a mut State, endpoint_id: &str) -> Result<&'a mut Endpoint> {
    state
        .rooms
        .values_mut()
        .flat_map(|room| &mut room.members)
        .map(|member| &mut member.endpoint)
        .find(|endpoint| endpoint.id == endpoint_id)
        .ok_or_else(|| Error::Invalid(format!("no endpoint {endpoint_id}")))
}
