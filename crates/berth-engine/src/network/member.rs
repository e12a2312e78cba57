//! Containers that join and leave networks.

use std::sync::Arc;

use berth_network::NetworkRecord;
use berth_spec::docker::EndpointSettings;
use berth_spec::docker::network::{NetworkConnectBody, NetworkDisconnectBody};

use super::find;
use crate::container::plan::{NetworkMode, check_endpoint, requested};
use crate::container::record::Container;
use crate::container::state::Status;
use crate::container::{host_files, sandbox, tell_network};
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Puts a container into a network.
pub async fn connect(engine: &Engine, name: &str, body: NetworkConnectBody) -> Result<()> {
    let network = find(engine, name)?;
    let container = engine.0.containers.find(&body.container)?;
    let settings = body.endpoint_config.unwrap_or_default();
    check_endpoint(&network.name, &settings)?;
    let _key = container.key.lock().await;
    check_join(&container, &network, &settings)?;
    if container.status().alive() {
        attach(engine, &container, &network, settings).await?;
        tell_network(engine, &network.id, "connect", &container.id);
    } else {
        container.change(&engine.0.db, |r| {
            r.networks.insert(network.name.clone(), settings);
        })?;
    }
    Ok(())
}

fn check_join(
    container: &Container,
    network: &NetworkRecord,
    settings: &EndpointSettings,
) -> Result<()> {
    let (mode, status, member) = container.read(|r| {
        let member = r.networks.contains_key(&network.name) || r.networks.contains_key(&network.id);
        (r.host.network_mode.clone(), r.life.status, member)
    });
    if matches!(status, Status::Removing | Status::Dead) {
        return Err(Error::conflict(format!(
            "Container {} is marked for removal and cannot be connected or disconnected to the network",
            container.id
        )));
    }
    if member {
        return Err(Error::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            container.name(),
            network.name
        )));
    }
    match NetworkMode::parse(&mode)? {
        NetworkMode::Container(_) => {
            return Err(Error::invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ));
        }
        NetworkMode::Host => {
            return Err(Error::invalid(
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        NetworkMode::None => {
            return Err(Error::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        NetworkMode::Network(_) => {}
    }
    if matches!(network.name.as_str(), "host" | "none") {
        return Err(Error::invalid(format!(
            "container cannot be connected to the network {}",
            network.name
        )));
    }
    let fixed = settings
        .ipam_config
        .as_ref()
        .is_some_and(|i| !i.ipv4_address.is_empty() || !i.ipv6_address.is_empty());
    if fixed && !network.dns {
        return Err(Error::invalid(
            "user specified IP address is supported on user defined networks only",
        ));
    }
    Ok(())
}

async fn attach(
    engine: &Engine,
    container: &Arc<Container>,
    network: &NetworkRecord,
    settings: EndpointSettings,
) -> Result<()> {
    let (engine, container, network) = (engine.clone(), container.clone(), network.clone());
    blocking(move || {
        let record = container.snapshot();
        let joined = sandbox::of(&engine, &record)?.ok_or_else(|| {
            Error::conflict(format!(
                "container {} has no network of its own",
                container.id
            ))
        })?;
        let mut request = sandbox::endpoint_request(&engine, &record, &network.name, &settings)?;
        let mut others = record.sandbox.iter().flat_map(|s| &s.endpoints);
        if !network.internal && !others.any(|e| e.default_route) {
            request.default_route = true;
            request.ports = requested(&record.config, &record.host)?;
        }
        let endpoint = engine.0.networks.attach(&joined, &network.id, request)?;
        let addresses = sandbox::addresses_of(&endpoint);
        let kept = container.change(&engine.0.db, |r| {
            r.networks.insert(network.name.clone(), settings);
            if let Some(sandbox) = &mut r.sandbox {
                sandbox.endpoints.push(endpoint);
            }
        });
        if let Err(error) = kept {
            engine.0.networks.detach(joined.id(), &network.id)?;
            return Err(error);
        }
        host_files::change_hosts(&engine, &record, &[], &addresses)
    })
    .await
}

/// Takes a container out of a network.
pub async fn disconnect(engine: &Engine, name: &str, body: NetworkDisconnectBody) -> Result<()> {
    let network = find(engine, name)?;
    let container = match engine.0.containers.find(&body.container) {
        Ok(container) => container,
        Err(_) if body.force => {
            return Err(Error::not_found(format!(
                "endpoint {} not found",
                body.container
            )));
        }
        Err(error) => return Err(error),
    };
    let _key = container.key.lock().await;
    let (member, sandbox) = container.read(|r| {
        let key = [&network.name, &network.id]
            .into_iter()
            .find(|k| r.networks.contains_key(*k))
            .cloned();
        (key, r.sandbox.as_ref().map(|s| s.id.clone()))
    });
    let Some(key) = member else {
        return Err(Error::forbidden(format!(
            "container {} is not connected to network {}",
            container.id, network.name
        )));
    };
    if network.name == "host" {
        return Err(Error::invalid(
            "cannot disconnect container from host network - container was created in host network mode",
        ));
    }
    match sandbox {
        Some(sandbox) => {
            let (engine, container, network) = (engine.clone(), container.clone(), network.clone());
            blocking(move || detach(&engine, &container, &network, &key, &sandbox)).await?;
        }
        None => container.change(&engine.0.db, |r| drop(r.networks.remove(&key)))?,
    }
    tell_network(engine, &network.id, "disconnect", &container.id);
    Ok(())
}

/// Leaves a network while the container runs. Published ports move to the endpoint that carries the
/// default route then.
fn detach(
    engine: &Engine,
    container: &Arc<Container>,
    network: &NetworkRecord,
    key: &str,
    sandbox_id: &str,
) -> Result<()> {
    let networks = &engine.0.networks;
    networks.detach(sandbox_id, &network.id)?;
    let left = container.change(&engine.0.db, |r| {
        r.networks.remove(key);
        let sandbox = r.sandbox.as_mut()?;
        let at = sandbox
            .endpoints
            .iter()
            .position(|e| e.network_id == network.id)?;
        let left = sandbox.endpoints.remove(at);
        sandbox::refresh(engine, sandbox);
        Some(left)
    })?;
    let gone = left.as_ref().map(sandbox::addresses_of);
    let record = container.snapshot();
    let mut endpoints = record.sandbox.iter().flat_map(|s| &s.endpoints);
    let heir = endpoints.find(|e| e.default_route).map(|e| e.id.clone());
    if let Some(heir) = heir
        && left.is_some_and(|left| !left.ports.is_empty())
    {
        networks.publish(&heir, &requested(&record.config, &record.host)?)?;
        container.change(&engine.0.db, |r| {
            if let Some(sandbox) = &mut r.sandbox {
                sandbox::refresh(engine, sandbox);
            }
        })?;
    }
    host_files::change_hosts(engine, &record, &gone.unwrap_or_default(), &[])
}
