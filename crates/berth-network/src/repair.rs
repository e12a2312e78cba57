//! Making the kernel agree with the state: when an engine starts, and when others have removed something.

use std::time::{Duration, Instant};

use crate::names::Names;
use crate::options::NetworkOptions;
use crate::record::Driver;
use crate::route;
use crate::state::{State, icc, isolated};
use crate::{Error, Result, attach, bridge, forwarding, macvlan};

/// A veth that is lost again within this time stays so until the next repair: a container that removes its own interface
/// in a loop gets no engine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(5);

/// Builds what is missing: forwarding, bridges (and their ports), veths, rules. Rules are replaced in one step, so there is no
/// moment without them.
pub(crate) fn all(state: &mut State, names: &Names, options: &NetworkOptions) -> Result<()> {
    forwarding::turn_on(options)?;
    if state.networks.values().any(|n| n.record.subnet6.is_some()) {
        forwarding::turn_on_ipv6(&mut state.route, options)?;
    }
    // Rules first: nothing is reachable that should not be, not even for the time that the bridges take.
    state.replace_rules(names, options)?;
    state.pass_dockers_policy(names);
    let State {
        networks,
        route,
        mtu,
        ..
    } = state;
    for network in networks
        .values_mut()
        .filter(|n| n.record.driver == Driver::Macvlan)
    {
        let wanted = attach::mtu(&network.record, *mtu);
        // A parent that is not there (yet) keeps containers from that network, not the engine from its work.
        match macvlan::ensure_parent(route, names, &network.record, wanted) {
            Ok((index, _)) => network.bridge = index,
            Err(e) => tracing::warn!("{}", crate::background::with_cause(&e)),
        }
    }
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
    if let Err(e) = lost_veths(state, names, options) {
        failed.get_or_insert(e);
    }
    failed.map_or(Ok(()), Err)
}

/// Makes veths of endpoints again that others have removed.
fn lost_veths(state: &mut State, names: &Names, options: &NetworkOptions) -> Result<()> {
    let links = state
        .route
        .links()
        .map_err(|e| Error::kernel("list interfaces", e))?;
    let State {
        networks,
        rooms,
        route,
        mtu,
        ..
    } = state;
    for room in rooms.values_mut() {
        for at in 0..room.members.len() {
            let member = &mut room.members[at];
            let recent = member.mended.is_some_and(|then| then.elapsed() < PATIENCE);
            let alone = member.veth.host.is_empty();
            if alone || links.contains_key(&member.veth.host) || recent {
                continue;
            }
            let Some(network) = networks.get(&member.endpoint.network_id) else {
                continue;
            };
            member.mended = Some(Instant::now());
            if let Err(e) = attach::mend(room, at, network, route, (names, options, *mtu)) {
                // Likely a namespace whose processes have changed it: no reason to try for ever.
                tracing::warn!(
                    "cannot mend an endpoint: {}",
                    crate::background::with_cause(&e)
                );
            }
        }
    }
    Ok(())
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
