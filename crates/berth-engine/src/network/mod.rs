//! Networks, and containers in them.

mod member;

use std::collections::BTreeMap;

use berth_network::{Driver, Endpoint, NetworkRecord, NetworkSpec};
use berth_spec::docker::network::{
    Ipam, IpamConfig, NetworkContainer, NetworkCreateResponse, NetworksPruned,
};
use berth_spec::docker::{Network, NetworkCreateBody};
use jiff::Timestamp;
pub use member::{connect, disconnect};

use crate::crossing::blocking;
use crate::db::Kind;
use crate::event::Subject;
use crate::{Engine, Error, Filters, Result, time};

fn tell(engine: &Engine, action: &str, record: &NetworkRecord) {
    let attributes = BTreeMap::from([
        ("name".to_owned(), record.name.clone()),
        ("type".to_owned(), record.driver.as_str().to_owned()),
    ]);
    engine
        .0
        .events
        .tell(Subject::Network, action, &record.id, attributes);
}

/// Makes a network.
pub async fn create(engine: &Engine, body: NetworkCreateBody) -> Result<NetworkCreateResponse> {
    let spec = spec(body)?;
    let made = engine.clone();
    let record = blocking(move || {
        let record = made.0.networks.create_recorded(spec, |record| {
            berth_sys::fail_point("network.create.made");
            made.0.db.put(Kind::Network, &record.id, record)
        })?;
        berth_sys::fail_point("network.create.recorded");
        made.0.db.sync()?;
        Ok::<_, Error>(record)
    })
    .await?;
    tell(engine, "create", &record);
    Ok(NetworkCreateResponse {
        id: record.id,
        warning: String::new(),
    })
}

/// What is asked of the networks, with what they do not have refused.
fn spec(body: NetworkCreateBody) -> Result<NetworkSpec> {
    let driver = match body.driver.as_str() {
        "" | "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "ipvlan" => {
            return Err(Error::not_implemented(
                "the ipvlan driver is not supported by this engine: macvlan networks are",
            ));
        }
        "host" | "null" => {
            return Err(Error::forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                body.driver
            )));
        }
        driver => {
            return Err(Error::not_found(format!(
                "could not find plugin {driver} in v1 plugin registry: plugin not found"
            )));
        }
    };
    if body.name.is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if body.ingress
        || body.config_only
        || body
            .config_from
            .as_ref()
            .is_some_and(|c| !c.network.is_empty())
    {
        return Err(Error::not_implemented(
            "ingress and configuration networks are not supported by this engine",
        ));
    }
    if body.enable_ipv4 == Some(false) {
        return Err(Error::not_implemented(
            "a network without IPv4 is not supported by this engine",
        ));
    }
    let mut spec = NetworkSpec {
        name: body.name,
        driver,
        internal: body.internal,
        ipv6: body.enable_ipv6 == Some(true),
        options: body.options.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
        ..NetworkSpec::default()
    };
    let ipam = body.ipam.unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "could not find plugin {} in v1 plugin registry: plugin not found",
            ipam.driver
        )));
    }
    for config in ipam.config.unwrap_or_default() {
        read_ipam(&mut spec, config)?;
    }
    Ok(spec)
}

fn read_ipam(spec: &mut NetworkSpec, config: IpamConfig) -> Result<()> {
    fn read<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("invalid {what}: {text}")))
    }
    if config.subnet.contains(':') {
        // As Docker has it, what is said of IPv6 counts where IPv6 is asked for.
        if !spec.ipv6 {
            return Ok(());
        }
        if spec.subnet6.is_some() {
            return Err(Error::invalid(
                "a network has one IPv6 subnet in this engine",
            ));
        }
        spec.subnet6 = read("subnet", &config.subnet)?;
        spec.ip_range6 = read("ip-range", &config.ip_range)?;
        spec.gateway6 = read("gateway", &config.gateway)?;
    } else {
        if spec.subnet.is_some() {
            return Err(Error::invalid(
                "a network has one IPv4 subnet in this engine",
            ));
        }
        spec.subnet = read("subnet", &config.subnet)?;
        spec.ip_range = read("ip-range", &config.ip_range)?;
        spec.gateway = read("gateway", &config.gateway)?;
    }
    for (name, address) in config.auxiliary_addresses {
        if let Some(address) = read("auxiliary address", &address)? {
            spec.reserved.insert(name, address);
        }
    }
    Ok(())
}

/// Lists networks.
pub async fn list(engine: &Engine, filters: Filters) -> Result<Vec<Network>> {
    filters.allow(&[
        "dangling", "driver", "id", "label", "label!", "name", "scope", "type",
    ])?;
    let dangling = filters.truth("dangling")?;
    for kind in filters.get("type") {
        if !matches!(kind.as_str(), "builtin" | "custom") {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    let mut networks: Vec<_> = engine
        .0
        .networks
        .list()
        .into_iter()
        .filter(|n| {
            let kind = if n.predefined() { "builtin" } else { "custom" };
            let idle = || !n.predefined() && members(engine, n).is_empty();
            filters.contained("name", &n.name)
                && (!filters.has("id")
                    || filters
                        .get("id")
                        .iter()
                        .any(|id| n.id.starts_with(id.as_str())))
                && filters.exact("driver", n.driver.as_str())
                && filters.exact("scope", "local")
                && filters.exact("type", kind)
                && filters.labels(&n.labels)
                && dangling.is_none_or(|d| idle() == d)
        })
        .map(|n| describe(&n))
        .collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(networks)
}

/// Containers that belong to a network, running or not.
fn members(engine: &Engine, network: &NetworkRecord) -> Vec<String> {
    engine
        .0
        .containers
        .all()
        .iter()
        .filter(|c| {
            c.read(|r| {
                r.networks
                    .keys()
                    .any(|n| *n == network.name || *n == network.id)
            })
        })
        .map(|c| c.id.clone())
        .collect()
}

fn describe(record: &NetworkRecord) -> Network {
    fn text(value: Option<impl ToString>) -> String {
        value.map(|v| v.to_string()).unwrap_or_default()
    }
    let reserved = |v4: bool| {
        let of_kind = record.reserved.iter().filter(|(_, ip)| ip.is_ipv4() == v4);
        of_kind
            .map(|(name, ip)| (name.clone(), ip.to_string()))
            .collect()
    };
    let config = record.subnet.map(|subnet| IpamConfig {
        subnet: subnet.to_string(),
        ip_range: text(record.ip_range),
        gateway: text(record.gateway),
        auxiliary_addresses: reserved(true),
    });
    let config6 = record.subnet6.map(|subnet| IpamConfig {
        subnet: subnet.to_string(),
        ip_range: text(record.ip_range6),
        gateway: text(record.gateway6),
        auxiliary_addresses: reserved(false),
    });
    let created = Timestamp::from_second(record.created).unwrap_or_default();
    Network {
        name: record.name.clone(),
        id: record.id.clone(),
        created: time::text(Some(created)),
        scope: "local".to_owned(),
        driver: record.driver.as_str().to_owned(),
        enable_ipv4: true,
        enable_ipv6: record.subnet6.is_some(),
        ipam: Ipam {
            driver: "default".to_owned(),
            options: None,
            config: Some(config.into_iter().chain(config6).collect()),
        },
        internal: record.internal,
        options: options(record),
        labels: record.labels.clone(),
        ..Network::default()
    }
}

/// Of the default network Docker shows what it is made of.
fn options(record: &NetworkRecord) -> BTreeMap<String, String> {
    let mut options = record.options.clone();
    if record.name == "bridge" && record.driver == Driver::Bridge {
        for (name, value) in [
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
            ("com.docker.network.bridge.name", record.bridge.as_str()),
        ] {
            options
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
    }
    options
}

/// Describes a network and who is in it.
pub async fn inspect(engine: &Engine, name: &str) -> Result<Network> {
    let record = find(engine, name)?;
    let (networks, id) = (engine.clone(), record.id.clone());
    let endpoints: Vec<Endpoint> = blocking(move || networks.0.networks.endpoints(&id)).await?;
    let mut network = describe(&record);
    for endpoint in endpoints {
        network.containers.insert(
            endpoint.container_id.clone(),
            NetworkContainer {
                name: endpoint.container_name.clone(),
                endpoint_id: endpoint.id.clone(),
                mac_address: endpoint.mac.to_string(),
                ipv4_address: format!("{}/{}", endpoint.ip, endpoint.prefix_len),
                ipv6_address: endpoint.ipv6.map(|n| n.to_string()).unwrap_or_default(),
            },
        );
    }
    Ok(network)
}

pub(crate) fn find(engine: &Engine, name: &str) -> Result<NetworkRecord> {
    Ok(engine.0.networks.get(name)?)
}

/// Removes a network that nobody is in.
pub async fn remove(engine: &Engine, name: &str) -> Result<()> {
    engine.make_way();
    let record = find(engine, name)?;
    if record.predefined() {
        return Err(Error::forbidden(format!(
            "{} is a pre-defined network and cannot be removed",
            record.name
        )));
    }
    let (networks, id) = (engine.clone(), record.id.clone());
    blocking(move || {
        let forget = |record: &NetworkRecord| {
            networks.0.db.remove(Kind::Network, &record.id)?;
            berth_sys::fail_point("network.remove.recorded");
            Ok::<_, Error>(())
        };
        networks.0.networks.remove_recorded(&id, forget)?;
        berth_sys::fail_point("network.remove.removed");
        networks.0.db.sync()
    })
    .await?;
    tell(engine, "destroy", &record);
    Ok(())
}

/// Removes user-defined networks that no container uses.
pub async fn prune(engine: &Engine, filters: Filters) -> Result<NetworksPruned> {
    filters.allow(&["label", "label!", "until"])?;
    let until = time::until(&filters)?;
    engine.make_way();
    let mut pruned = NetworksPruned::default();
    for network in engine.0.networks.list() {
        let young = until.is_some_and(|until| network.created > until.as_second());
        if network.predefined()
            || young
            || !filters.labels(&network.labels)
            || !members(engine, &network).is_empty()
        {
            continue;
        }
        match remove(engine, &network.id).await {
            Ok(()) => pruned
                .networks_deleted
                .get_or_insert_default()
                .push(network.name),
            // It came into use meanwhile.
            Err(error) => tracing::debug!(network = %network.name, %error, "not pruned"),
        }
    }
    Ok(pruned)
}
