//! Making the kernel agree with the state: when an engine starts, and when others have removed something.

use crate::names::Names;
use crate::options::NetworkOptions;
use crate::record::Driver;
use crate::route;
use crate::state::{State, icc, isolated};
use crate::{Error, Result, attach, bridge, sysctl};

/// Builds what is missing: forwarding, bridges (and their ports), rules. Rules are replaced in one step, so there is no
/// moment without them.
pub(crate) fn all(state: &mut State, names: &Names, options: &NetworkOptions) -> Result<()> {
    if options.ip_forward {
        sysctl::set("ipv4/ip_forward", "1")
            .map_err(|e| Error::kernel("turn on net.ipv4.ip_forward", e))?;
    }
    // Rules first: nothing is reachable that should not be, not even for the time that the bridges take.
    state.replace_rules(names, options)?;
    let ids: Vec<String> = state
        .networks
        .values()
        .filter(|n| n.record.driver == Driver::Bridge)
        .map(|n| n.record.id.clone())
        .collect();
    let mut failed = None;
    for id in ids {
        if let Err(e) = one_bridge(state, options, &id) {
            tracing::error!("{}", crate::background::with_cause(&e));
            failed.get_or_insert(e);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Makes a network's bridge if it is not there, and takes its ports in again.
fn one_bridge(state: &mut State, options: &NetworkOptions, id: &str) -> Result<()> {
    let State {
        networks,
        rooms,
        route,
        mtu,
        ..
    } = state;
    let Some(network) = networks.get_mut(id) else {
        return Ok(());
    };
    let wish = bridge::Wish {
        mtu: attach::mtu(&network.record, *mtu),
        icc: icc(&network.record, options),
    };
    let (index, made) = bridge::ensure(route, &network.record, &wish)?;
    network.bridge = index;
    if !made {
        return Ok(());
    }
    let isolated = isolated(&network.record, options);
    let members = rooms
        .values()
        .flat_map(|room| &room.members)
        .filter(|m| m.endpoint.network_id == id);
    for member in members {
        let veth = &member.veth;
        let requests = vec![
            route::set_bridge(veth.host_index, index),
            route::port_up(&veth.host, isolated),
            route::pin(veth.host_index, member.endpoint.mac),
        ];
        if let Err(e) = route.batch(requests) {
            tracing::warn!("cannot put {} back into its bridge: {e}", veth.host);
        }
    }
    Ok(())
}
