//! Making and removing networks: what is asked for is checked here, once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::Ipv4Net;

use crate::addresses::Addresses;
use crate::names::Names;
use crate::nft::Batch;
use crate::options::NetworkOptions;
use crate::record::{Driver, NetworkRecord, NetworkSpec};
use crate::state::{
    Network, OPTION_BRIDGE, OPTION_MTU, State, icc, network_rules, new_id, ruleset,
};
use crate::{Error, Result, attach, bridge, subnet};

/// Most networks of one engine: each costs a bridge, of which the kernel has some thousand.
const MOST_NETWORKS: usize = 4096;

/// A record with nothing in it but a name.
fn blank(name: &str, driver: Driver) -> Result<NetworkRecord> {
    let created = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64);
    Ok(NetworkRecord {
        id: new_id()?,
        name: name.to_owned(),
        created,
        driver,
        bridge: String::new(),
        subnet: None,
        ip_range: None,
        gateway: None,
        reserved: BTreeMap::new(),
        internal: false,
        dns: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    })
}

/// Nets that others use: this engine's networks and the routes of the host.
pub(crate) fn in_use(state: &mut State) -> Result<Vec<Ipv4Net>> {
    let routes = state
        .route
        .routes()
        .map_err(|e| Error::kernel("list the routes of the host", e))?;
    let own = state.networks.values().filter_map(|n| n.record.subnet);
    let foreign = routes
        .into_iter()
        .map(|(net, _)| net)
        .filter(|net| net.prefix_len() > 0);
    Ok(foreign.chain(own).collect())
}

/// Makes those of `bridge`, `host` and `none` that are not there yet.
pub(crate) fn predefined(state: &mut State, names: &Names, options: &NetworkOptions) -> Result<()> {
    for (name, driver) in [
        ("bridge", Driver::Bridge),
        ("host", Driver::Host),
        ("none", Driver::Null),
    ] {
        if state.networks.values().any(|n| n.record.name == name) {
            continue;
        }
        let mut record = blank(name, driver)?;
        if driver == Driver::Bridge {
            let used = in_use(state)?;
            let (subnet, gateway) = match options.bip.or(own_bridge(state, options)?) {
                Some(bip) => (bip.trunc(), bip.addr()),
                None => {
                    let subnet = subnet::free(&options.pools, &used)?;
                    (subnet, first(subnet)?)
                }
            };
            record.subnet = Some(subnet);
            record.gateway = Some(gateway);
            record.bridge.clone_from(&names.default_bridge);
            record.options = default_options(names, options, state.mtu);
        }
        admit(state, record);
    }
    Ok(())
}

/// The address of the bridge that the user named for the default network, if it is there with one.
fn own_bridge(state: &mut State, options: &NetworkOptions) -> Result<Option<Ipv4Net>> {
    let Some(name) = &options.bridge_name else {
        return Ok(None);
    };
    let on = |e| Error::kernel(format!("look at the bridge {name}"), e);
    match state.route.link(name).map_err(on)? {
        Some(index) => state.route.address(index).map_err(on),
        None => Ok(None),
    }
}

/// What Docker shows as options of its default network.
pub(crate) fn default_options(
    names: &Names,
    options: &NetworkOptions,
    mtu: u32,
) -> BTreeMap<String, String> {
    let binding = options
        .default_binding
        .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
    [
        ("com.docker.network.bridge.default_bridge", "true".into()),
        (crate::state::OPTION_ICC, options.icc.to_string()),
        (
            crate::state::OPTION_MASQUERADE,
            options.masquerade.to_string(),
        ),
        (crate::state::OPTION_BINDING, binding),
        (OPTION_BRIDGE, names.default_bridge.clone()),
        (OPTION_MTU, mtu.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Takes a record into the state; its bridge is not there yet.
pub(crate) fn admit(state: &mut State, record: NetworkRecord) {
    let network = Network {
        addresses: Addresses::new(&record),
        bridge: 0,
        record,
    };
    state.networks.insert(network.record.id.clone(), network);
}

fn first(subnet: Ipv4Net) -> Result<Ipv4Addr> {
    subnet
        .hosts()
        .next()
        .ok_or_else(|| Error::Invalid(format!("the subnet {subnet} has no address")))
}

/// Makes a user-defined network.
pub(crate) fn create(
    state: &mut State,
    names: &Names,
    options: &NetworkOptions,
    spec: NetworkSpec,
) -> Result<NetworkRecord> {
    check_name(&spec.name)?;
    if state.networks.values().any(|n| n.record.name == spec.name) {
        return Err(Error::NetworkExists(spec.name));
    }
    if state.networks.len() >= MOST_NETWORKS {
        return Err(Error::Forbidden(format!(
            "this engine has {MOST_NETWORKS} networks already"
        )));
    }
    let mut record = blank(&spec.name, Driver::Bridge)?;
    let subnet = choose_subnet(state, options, &spec)?;
    record.gateway = Some(choose_gateway(subnet, &spec)?);
    record.subnet = Some(subnet);
    record.bridge = choose_bridge(state, names, &record.id, &spec)?;
    record.ip_range = spec.ip_range;
    record.reserved = spec.reserved;
    record.internal = spec.internal;
    record.dns = true;
    record.options = spec.options;
    record.labels = spec.labels;
    let wish = bridge::Wish {
        mtu: attach::mtu(&record, state.mtu),
        icc: icc(&record, options),
    };
    let (index, _) = bridge::ensure(&mut state.route, &record, &wish)?;
    let mut batch = Batch::new();
    ruleset(names).add_network(&mut batch, &network_rules(&record, options));
    if let Err(e) = state.commit(batch) {
        let _ = bridge::remove(&mut state.route, &record.bridge);
        return Err(e);
    }
    admit(state, record.clone());
    if let Some(network) = state.networks.get_mut(&record.id) {
        network.bridge = index;
    }
    state.pass_dockers_policy(names);
    Ok(record)
}

fn check_name(name: &str) -> Result<()> {
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "invalid network name {:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        name.chars().take(80).collect::<String>()
    )))
}

fn choose_subnet(
    state: &mut State,
    options: &NetworkOptions,
    spec: &NetworkSpec,
) -> Result<Ipv4Net> {
    let Some(subnet) = spec.subnet.map(|s| s.trunc()) else {
        if spec.ip_range.is_some() || spec.gateway.is_some() {
            return Err(Error::Invalid(
                "invalid network config: a gateway or an IP range needs a subnet".into(),
            ));
        }
        let used = in_use(state)?;
        return subnet::free(&options.pools, &used);
    };
    let ip = subnet.network();
    if !(8..=30).contains(&subnet.prefix_len()) || ip.is_loopback() || ip.is_multicast() {
        return Err(Error::Invalid(format!(
            "invalid network config: the subnet {subnet} cannot be used"
        )));
    }
    if let Some(range) = spec.ip_range
        && !(subnet.contains(&range.network()) && subnet.prefix_len() <= range.prefix_len())
    {
        return Err(Error::Invalid(format!(
            "invalid network config: ip-range {range} is not within the subnet {subnet}"
        )));
    }
    let own = state.networks.values().filter_map(|n| n.record.subnet);
    if own.into_iter().any(|used| subnet::overlap(&used, &subnet)) {
        return Err(Error::Forbidden(
            "invalid pool request: Pool overlaps with other one on this address space".into(),
        ));
    }
    Ok(subnet)
}

fn choose_gateway(subnet: Ipv4Net, spec: &NetworkSpec) -> Result<Ipv4Addr> {
    match spec.gateway {
        None => {
            let reserved = |ip: &Ipv4Addr| {
                spec.reserved
                    .values()
                    .any(|r| *r == std::net::IpAddr::V4(*ip))
            };
            subnet
                .hosts()
                .find(|ip| !reserved(ip))
                .ok_or_else(|| Error::Invalid(format!("the subnet {subnet} has no address")))
        }
        Some(ip) if subnet.contains(&ip) && ip != subnet.network() && ip != subnet.broadcast() => {
            Ok(ip)
        }
        Some(ip) => Err(Error::Invalid(format!(
            "no matching subnet for gateway {ip}"
        ))),
    }
}

fn choose_bridge(
    state: &State,
    names: &Names,
    network_id: &str,
    spec: &NetworkSpec,
) -> Result<String> {
    let Some(name) = spec.options.get(OPTION_BRIDGE) else {
        return Ok(names.bridge(network_id));
    };
    let fits = (1..=15).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !name.starts_with('.');
    if !fits {
        return Err(Error::Invalid(format!(
            "invalid name for a bridge: {:?}",
            name.chars().take(80).collect::<String>()
        )));
    }
    if state.networks.values().any(|n| n.record.bridge == *name) {
        return Err(Error::Conflict(format!(
            "bridge {name} belongs to another network"
        )));
    }
    Ok(name.clone())
}

/// Removes a user-defined network.
pub(crate) fn remove(
    state: &mut State,
    names: &Names,
    options: &NetworkOptions,
    name_or_id: &str,
) -> Result<NetworkRecord> {
    let record = state.network(name_or_id)?.record.clone();
    if record.predefined() {
        return Err(Error::Forbidden(format!(
            "{} is a pre-defined network and cannot be removed",
            record.name
        )));
    }
    let endpoints: Vec<_> = state
        .endpoints(&record.id)
        .map(|e| {
            let short = e.container_id.get(..12).unwrap_or(&e.container_id);
            format!("name:{:?} id:{short:?}", e.container_name)
        })
        .collect();
    if !endpoints.is_empty() {
        return Err(Error::NetworkInUse {
            name: record.name,
            endpoints: endpoints.join(", "),
        });
    }
    let mut batch = Batch::new();
    ruleset(names).remove_network(&mut batch, &network_rules(&record, options));
    state.networks.remove(&record.id);
    if let Err(e) = state.commit(batch) {
        // Others removed some of our rules: the watcher puts them back, without this network.
        tracing::debug!("{e}");
    }
    state.pass_dockers_policy(names);
    bridge::remove(&mut state.route, &record.bridge)?;
    Ok(record)
}
