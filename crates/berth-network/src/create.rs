//! Making and removing networks: what is asked for is checked here, once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::addresses::Addresses;
use crate::names::Names;
use crate::nft::Batch;
use crate::options::NetworkOptions;
use crate::record::{Driver, NetworkRecord, NetworkSpec};
use crate::state::{
    Network, OPTION_BRIDGE, OPTION_MTU, State, icc, network_rules, new_id, ruleset,
};
use crate::{Error, Result, attach, bridge, macvlan, subnet};

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
        subnet6: None,
        ip_range6: None,
        gateway6: None,
        reserved: BTreeMap::new(),
        internal: false,
        dns: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        made_parent: false,
    })
}

/// Nets that others use: this engine's networks and the routes of the host.
pub(crate) fn in_use(state: &mut State) -> Result<Vec<IpNet>> {
    let on = |e| Error::kernel("list the routes of the host", e);
    let routes = state.route.routes().map_err(on)?;
    let routes6 = state.route.routes6().map_err(on)?;
    let foreign = routes.into_iter().map(|(net, _)| IpNet::V4(net));
    let foreign = foreign.chain(routes6.into_iter().map(IpNet::V6));
    let foreign = foreign.filter(|net| net.prefix_len() > 0);
    Ok(foreign.chain(own(state)).collect())
}

/// Nets of this engine's networks.
fn own(state: &State) -> Vec<IpNet> {
    let records = state.networks.values().map(|n| &n.record);
    records
        .flat_map(|r| [r.subnet.map(IpNet::V4), r.subnet6.map(IpNet::V6)])
        .flatten()
        .collect()
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
                // As Docker has it, a range alone is the whole subnet.
                None if options.fixed_cidr.is_some() => {
                    let subnet = options.fixed_cidr.unwrap_or_default().trunc();
                    (subnet, first(subnet)?)
                }
                None => {
                    let subnet = subnet::free(&options.pools, &used)?;
                    (subnet, first(subnet)?)
                }
            };
            record.subnet = Some(subnet);
            record.gateway = Some(gateway);
            record.bridge.clone_from(&names.default_bridge);
            record.options = default_options(names, options, state.mtu);
            default_range(&mut record, options)?;
            default_ipv6(state, &mut record, options)?;
        }
        admit(state, record);
    }
    Ok(())
}

/// Where the default network's addresses are given from, as the options have it.
pub(crate) fn default_range(record: &mut NetworkRecord, options: &NetworkOptions) -> Result<()> {
    record.ip_range = options.fixed_cidr.map(|range| range.trunc());
    match (record.ip_range, record.subnet) {
        (Some(range), Some(subnet))
            if !(subnet.contains(&range.network())
                && subnet.prefix_len() <= range.prefix_len()) =>
        {
            Err(Error::Invalid(format!(
                "the range {range} (--fixed-cidr) is not within the subnet {subnet} of the default network"
            )))
        }
        _ => Ok(()),
    }
}

/// Gives the default network IPv6, or takes it away, as the options have it.
pub(crate) fn default_ipv6(
    state: &mut State,
    record: &mut NetworkRecord,
    options: &NetworkOptions,
) -> Result<()> {
    let subnet = match (options.ipv6, options.fixed_cidr6) {
        (false, _) => None,
        (true, Some(fixed)) => Some(fixed.trunc()),
        (true, None) => match record.subnet6 {
            Some(subnet) => Some(subnet),
            None => {
                let used = in_use(state)?;
                Some(subnet::free6(&options.pools, &options.instance, &used)?)
            }
        },
    };
    if record.subnet6 != subnet {
        record.subnet6 = subnet;
        record.gateway6 = match subnet {
            Some(subnet) => Some(first6(subnet, &record.reserved)?),
            None => None,
        };
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
        addresses: Addresses::v4(&record),
        addresses6: Addresses::v6(&record),
        bridge: 0,
        record,
    };
    state.networks.insert(network.record.id.clone(), network);
}

/// The first address of an IPv6 subnet that nobody reserved.
fn first6(subnet: Ipv6Net, reserved: &BTreeMap<String, IpAddr>) -> Result<Ipv6Addr> {
    let from = u128::from(subnet.network()) + 1;
    let end = u128::from(subnet.broadcast());
    (from..=end)
        .map(Ipv6Addr::from)
        .find(|ip| !reserved.values().any(|r| *r == IpAddr::V6(*ip)))
        .ok_or_else(|| Error::Invalid(format!("the subnet {subnet} has no address")))
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
    let mut record = blank(&spec.name, spec.driver)?;
    let subnet = choose_subnet(state, options, &spec)?;
    record.gateway = Some(choose_gateway(subnet, &spec)?);
    record.subnet = Some(subnet);
    if spec.driver == Driver::Bridge {
        record.bridge = choose_bridge(state, names, &record.id, &spec)?;
    }
    record.ip_range = spec.ip_range;
    if spec.ipv6 {
        let subnet = choose_subnet6(state, options, &spec)?;
        record.gateway6 = Some(choose_gateway6(subnet, &spec)?);
        record.subnet6 = Some(subnet);
        record.ip_range6 = spec.ip_range6;
    } else if spec.subnet6.is_some() {
        return Err(Error::Invalid(
            "invalid network config: an IPv6 subnet is for a network with IPv6 (--ipv6)".into(),
        ));
    }
    record.reserved = spec.reserved;
    record.internal = spec.internal;
    record.dns = true;
    record.options = spec.options;
    record.labels = spec.labels;
    if spec.driver == Driver::Macvlan {
        return create_macvlan(state, names, record);
    }
    let wish = bridge::Wish {
        mtu: attach::mtu(&record, state.mtu),
        icc: icc(&record, options),
    };
    if record.subnet6.is_some() {
        crate::forwarding::turn_on_ipv6(&mut state.route, options)?;
    }
    let (index, _) = bridge::ensure(&mut state.route, &record, &wish)?;
    berth_sys::fail_point("network.create.bridge");
    let mut batch = Batch::new();
    ruleset(names).add_network(&mut batch, &network_rules(&record, options));
    if let Err(e) = state.commit(batch) {
        let _ = bridge::remove(&mut state.route, &record.bridge);
        return Err(e);
    }
    berth_sys::fail_point("network.create.rules");
    admit(state, record.clone());
    if let Some(network) = state.networks.get_mut(&record.id) {
        network.bridge = index;
    }
    state.pass_dockers_policy(names);
    Ok(record)
}

fn create_macvlan(
    state: &mut State,
    names: &Names,
    mut record: NetworkRecord,
) -> Result<NetworkRecord> {
    macvlan::mode(&record)?;
    let parent = macvlan::parent(&record)?;
    let shared = |n: &&Network| {
        n.record.driver == Driver::Macvlan
            && parent.is_some()
            && macvlan::parent(&n.record).is_ok_and(|p| p == parent)
    };
    if let Some(other) = state.networks.values().find(shared) {
        return Err(Error::Forbidden(format!(
            "network {} is already using parent interface {}",
            other.record.name,
            parent.unwrap_or_default()
        )));
    }
    let mtu = attach::mtu(&record, state.mtu);
    let (index, made) = macvlan::ensure_parent(&mut state.route, names, &record, mtu)?;
    record.made_parent = made;
    admit(state, record.clone());
    if let Some(network) = state.networks.get_mut(&record.id) {
        network.bridge = index;
    }
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
        // Beside an IPv6 subnet of the user's own, or without any.
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
    not_overlapping(state, subnet.into())?;
    Ok(subnet)
}

fn not_overlapping(state: &State, subnet: IpNet) -> Result<()> {
    if own(state).iter().any(|used| subnet::overlap(used, &subnet)) {
        return Err(Error::Forbidden(
            "invalid pool request: Pool overlaps with other one on this address space".into(),
        ));
    }
    Ok(())
}

fn choose_subnet6(
    state: &mut State,
    options: &NetworkOptions,
    spec: &NetworkSpec,
) -> Result<Ipv6Net> {
    let Some(subnet) = spec.subnet6.map(|s| s.trunc()) else {
        let used = in_use(state)?;
        return subnet::free6(&options.pools, &options.instance, &used);
    };
    let ip = subnet.network();
    let odd = ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local();
    if !(8..=126).contains(&subnet.prefix_len()) || odd || ip.to_ipv4_mapped().is_some() {
        return Err(Error::Invalid(format!(
            "invalid network config: the subnet {subnet} cannot be used"
        )));
    }
    if let Some(range) = spec.ip_range6
        && !(subnet.contains(&range.network()) && subnet.prefix_len() <= range.prefix_len())
    {
        return Err(Error::Invalid(format!(
            "invalid network config: ip-range {range} is not within the subnet {subnet}"
        )));
    }
    not_overlapping(state, subnet.into())?;
    Ok(subnet)
}

fn choose_gateway6(subnet: Ipv6Net, spec: &NetworkSpec) -> Result<Ipv6Addr> {
    match spec.gateway6 {
        None => first6(subnet, &spec.reserved),
        Some(ip) if subnet.contains(&ip) && ip != subnet.network() => Ok(ip),
        Some(ip) => Err(Error::Invalid(format!(
            "no matching subnet for gateway {ip}"
        ))),
    }
}

fn choose_gateway(subnet: Ipv4Net, spec: &NetworkSpec) -> Result<Ipv4Addr> {
    match spec.gateway {
        None => {
            let reserved = |ip: &Ipv4Addr| spec.reserved.values().any(|r| *r == IpAddr::V4(*ip));
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

/// A network that may be removed: user-defined, and nobody is in it.
pub(crate) fn removable(state: &State, name_or_id: &str) -> Result<NetworkRecord> {
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
    Ok(record)
}

/// Removes a user-defined network.
pub(crate) fn remove(
    state: &mut State,
    names: &Names,
    options: &NetworkOptions,
    name_or_id: &str,
) -> Result<NetworkRecord> {
    let record = removable(state, name_or_id)?;
    if record.driver == Driver::Macvlan {
        state.networks.remove(&record.id);
        macvlan::remove_parent(&mut state.route, names, &record)?;
        return Ok(record);
    }
    let mut batch = Batch::new();
    ruleset(names).remove_network(&mut batch, &network_rules(&record, options));
    state.networks.remove(&record.id);
    if let Err(e) = state.commit(batch) {
        // Others removed some of our rules: the watcher puts them back, without this network.
        tracing::debug!("{e}");
    }
    state.pass_dockers_policy(names);
    berth_sys::fail_point("network.remove.rules");
    bridge::remove(&mut state.route, &record.bridge)?;
    Ok(record)
}
