//! Networks, and containers in them.

use berth_spec::docker::network::{
    NetworkConnectBody, NetworkCreateResponse, NetworkDisconnectBody, NetworksPruned,
};
use berth_spec::docker::{Network, NetworkCreateBody};

use crate::Filters;
use crate::engine::absent;
use crate::{Engine, Result};

/// Makes a network.
pub async fn create(engine: &Engine, body: NetworkCreateBody) -> Result<NetworkCreateResponse> {
    let _ = (engine, body);
    absent("network create")
}

/// Lists networks.
pub async fn list(engine: &Engine, filters: Filters) -> Result<Vec<Network>> {
    let _ = (engine, filters);
    absent("network ls")
}

/// Describes a network and who is in it.
pub async fn inspect(engine: &Engine, name: &str) -> Result<Network> {
    let _ = (engine, name);
    absent("network inspect")
}

/// Removes a network that nobody is in.
pub async fn remove(engine: &Engine, name: &str) -> Result<()> {
    let _ = (engine, name);
    absent("network rm")
}

/// Puts a container into a network.
pub async fn connect(engine: &Engine, name: &str, body: NetworkConnectBody) -> Result<()> {
    let _ = (engine, name, body);
    absent("network connect")
}

/// Takes a container out of a network.
pub async fn disconnect(engine: &Engine, name: &str, body: NetworkDisconnectBody) -> Result<()> {
    let _ = (engine, name, body);
    absent("network disconnect")
}

/// Removes user-defined networks that no container uses.
pub async fn prune(engine: &Engine, filters: Filters) -> Result<NetworksPruned> {
    let _ = (engine, filters);
    absent("network prune")
}
