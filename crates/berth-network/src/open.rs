//! What an engine does about its networks when it starts: takes over what the records tell of, removes what they do not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use crate::claim::Claims;
use crate::names::Names;
use crate::netns::Directory;
use crate::nft::Nft;
use crate::options::NetworkOptions;
use crate::proxy::Doors;
use crate::record::{Driver, Endpoint, Existing, SandboxRecord};
use crate::route::{Links, Route};
use crate::state::{Member, Room, State, Veth};
use crate::subnet::overlap;
use crate::{Error, Result, create, macvlan, repair, veth};

/// MTU in bytes where no default route says.
const USUAL_MTU: u32 = 1500;

/// The state that an earlier engine left, with the kernel in agreement.
pub(crate) fn open(
    names: &Names,
    directory: &Directory,
    options: &NetworkOptions,
    existing: Existing,
) -> Result<State> {
    let on = |e: io::Error| Error::kernel("open a netlink socket", e);
    let mut route = Route::open().map_err(on)?;
    let mtu = match options.mtu {
        Some(mtu) => mtu,
        None => route
            .default_mtu()
            .map_err(|e| Error::kernel("find the default route's MTU", e))?
            .unwrap_or(USUAL_MTU),
    };
    let mut state = State {
        networks: BTreeMap::new(),
        rooms: HashMap::new(),
        claims: Claims::new(),
        doors: Doors::default(),
        nft: Nft::open().map_err(on)?,
        route,
        mtu,
        closed: false,
    };
    for mut record in existing.networks {
        let empty = !existing
            .sandboxes
            .iter()
            .flat_map(|s| &s.endpoints)
            .any(|e| e.network_id == record.id);
        if record.name == "bridge" {
            record.options = create::default_options(names, options, mtu);
            if empty {
                follow_options(&mut state, &mut record, names, options);
                create::default_range(&mut record, options)?;
                create::default_ipv6(&mut state, &mut record, options)?;
            }
        }
        create::admit(&mut state, record);
    }
    create::predefined(&mut state, names, options)?;
    let links = state
        .route
        .links()
        .map_err(|e| Error::kernel("list interfaces", e))?;
    for record in existing.sandboxes {
        let id = record.id.clone();
        match take_over(&mut state, directory, &links, record) {
            Ok(true) => {}
            Ok(false) => tracing::warn!("network sandbox {id} did not survive"),
            Err(e) => tracing::warn!(
                "network sandbox {id}: {}",
                crate::background::with_cause(&e)
            ),
        }
    }
    sweep(&mut state, names, directory)?;
    repair::all(&mut state, names, options)?;
    Ok(state)
}

/// The default network follows the engine's options, once nobody is in it any more.
fn follow_options(
    state: &mut State,
    record: &mut crate::NetworkRecord,
    names: &Names,
    options: &NetworkOptions,
) {
    let moved = options.bip.is_some_and(|bip| {
        record.gateway != Some(bip.addr()) || record.subnet != Some(bip.trunc())
    });
    if let Some(bip) = options.bip.filter(|_| moved) {
        record.subnet = Some(bip.trunc());
        record.gateway = Some(bip.addr());
        // It is made again with its new address, unless it is the user's.
        if options.bridge_name.as_ref() != Some(&record.bridge) {
            veth::remove(&mut state.route, &record.bridge);
        }
    }
    if let (None, Some(fixed), Some(subnet)) = (options.bip, options.fixed_cidr, record.subnet)
        && !subnet.contains(&fixed.network())
    {
        record.subnet = Some(fixed.trunc());
        record.gateway = fixed.trunc().hosts().next();
        veth::remove(&mut state.route, &record.bridge);
    }
    if options.bip.is_none()
        && let Err(e) = avoid_others(state, record, names, options)
    {
        tracing::warn!("{}", crate::background::with_cause(&e));
    }
    if record.bridge != names.default_bridge {
        record.bridge.clone_from(&names.default_bridge);
    }
}

/// While no engine ran, others may have taken the subnet (dockerd takes the same ones): with two routes the kernel would send
/// our containers' packets to theirs.
fn avoid_others(
    state: &mut State,
    record: &mut crate::NetworkRecord,
    names: &Names,
    options: &NetworkOptions,
) -> Result<()> {
    let fixed = options.bridge_name.is_some() || options.fixed_cidr.is_some();
    let Some(subnet) = record.subnet.filter(|_| !fixed) else {
        return Ok(());
    };
    let on = |e: io::Error| Error::kernel("list the routes of the host", e);
    let own = state.route.link(&names.default_bridge).map_err(on)?;
    let routes = state.route.routes().map_err(on)?;
    let taken = routes.iter().any(|(net, link)| {
        net.prefix_len() > 0
            && (link.is_none() || *link != own)
            && overlap(&(*net).into(), &subnet.into())
    });
    if taken {
        tracing::warn!("others use {subnet} by now: the default network gets another subnet");
        let used = create::in_use(state)?;
        let free = crate::subnet::free(&options.pools, &used)?;
        record.gateway = free.hosts().next();
        record.subnet = Some(free);
        veth::remove(&mut state.route, &record.bridge);
    }
    Ok(())
}

/// Takes over a sandbox and those of its endpoints whose networks are there. False if it is gone.
fn take_over(
    state: &mut State,
    directory: &Directory,
    host: &Links,
    record: SandboxRecord,
) -> Result<bool> {
    let Some((sandbox, mut inside)) = directory.find(&record.id)? else {
        return Ok(false);
    };
    let within = inside
        .links()
        .map_err(|e| Error::kernel(format!("list interfaces of sandbox {}", record.id), e))?;
    let mut members = Vec::new();
    for endpoint in record.endpoints {
        // What is not there any more has no number; it is mended later.
        let veth = Veth {
            host: endpoint.host_interface.clone(),
            host_index: host.get(&endpoint.host_interface).copied().unwrap_or(0),
            inside: endpoint.interface.clone(),
            inside_index: within.get(&endpoint.interface).copied().unwrap_or(0),
        };
        if restore(state, &endpoint) {
            members.push(Member {
                endpoint,
                veth,
                mended: None,
            });
        }
    }
    let room = Room {
        sandbox,
        route: inside,
        spare: None,
        members,
    };
    state.rooms.insert(record.id, room);
    Ok(true)
}

/// Address and ports are the endpoint's again. False if its network is gone.
fn restore(state: &mut State, endpoint: &Endpoint) -> bool {
    let Some(network) = state.networks.get_mut(&endpoint.network_id) else {
        return false;
    };
    if let Some(addresses) = &mut network.addresses {
        addresses.restore(endpoint.ip.into());
    }
    if let (Some(addresses), Some(ip)) = (&mut network.addresses6, endpoint.ip6()) {
        addresses.restore(ip.into());
    }
    for port in &endpoint.ports {
        if let Err(e) = state.claims.restore(&endpoint.id, port) {
            // The rules lead to the container all the same.
            tracing::warn!("{} of {}: {e}", port.host(), endpoint.container_name);
        }
    }
    state.open_doors(endpoint);
    true
}

/// Removes what this instance left behind and no record tells of.
fn sweep(state: &mut State, names: &Names, directory: &Directory) -> Result<()> {
    for id in directory.list() {
        if !state.rooms.contains_key(&id) {
            directory.unbind(&id);
        }
    }
    let parents: Vec<String> = state
        .networks
        .values()
        .filter(|n| n.record.driver == Driver::Macvlan)
        .flat_map(|n| macvlan::own_links(names, &n.record))
        .collect();
    let known: BTreeSet<&str> = state
        .rooms
        .values()
        .flat_map(|room| &room.members)
        .map(|m| m.veth.host.as_str())
        .chain(
            state
                .networks
                .values()
                .filter(|n| n.record.driver == Driver::Bridge)
                .map(|n| n.record.bridge.as_str()),
        )
        .chain(parents.iter().map(String::as_str))
        .collect();
    let links = state
        .route
        .links()
        .map_err(|e| Error::kernel("list interfaces", e))?;
    let strays: Vec<_> = links
        .into_keys()
        .filter(|name| names.is_veth(name) || names.is_bridge(name))
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    for name in strays {
        veth::remove(&mut state.route, &name);
    }
    Ok(())
}
