//! The one handle the engine holds.

use std::io;

use crate::options::NetworkOptions;
use crate::record::{Endpoint, EndpointRequest, Existing, NetworkRecord, NetworkSpec};
use crate::sandbox::Sandbox;
use crate::{Error, Result};

/// All networks of one engine. Every call blocks and may be made from any thread.
#[derive(Debug)]
pub struct Networks {
    _options: NetworkOptions,
}

fn not_yet<T>(attempt: &str) -> Result<T> {
    Err(Error::kernel(
        attempt,
        io::Error::from(io::ErrorKind::Unsupported),
    ))
}

impl Networks {
    /// Makes the kernel agree with `existing`: bridges, rules and published ports are there afterwards, and what no
    /// record tells of (of this instance only) is gone. The first time `existing` is empty and the predefined
    /// networks are made; record [`list`](Self::list) then.
    pub fn open(options: NetworkOptions, _existing: Existing) -> Result<Self> {
        Ok(Self { _options: options })
    }

    /// The network named `bridge`.
    pub fn default_network(&self) -> Result<NetworkRecord> {
        not_yet("find the default network")
    }

    /// All networks, `bridge`, `host` and `none` included.
    pub fn list(&self) -> Vec<NetworkRecord> {
        Vec::new()
    }

    /// The network of this name, ID or unambiguous start of an ID.
    pub fn get(&self, name_or_id: &str) -> Result<NetworkRecord> {
        Err(Error::NetworkNotFound(name_or_id.to_owned()))
    }

    /// Makes a user-defined bridge network. Record what comes back.
    pub fn create(&self, _spec: NetworkSpec) -> Result<NetworkRecord> {
        not_yet("create a network")
    }

    /// Removes a user-defined network that has no endpoint.
    pub fn remove(&self, name_or_id: &str) -> Result<NetworkRecord> {
        self.get(name_or_id)
    }

    /// A sandbox for a container of the default network, from those kept ready if there is one.
    pub fn sandbox(&self) -> Result<Sandbox> {
        not_yet("make a sandbox")
    }

    /// A sandbox with loopback only, for mode `none` and for user-defined networks.
    pub fn sandbox_none(&self) -> Result<Sandbox> {
        not_yet("make a sandbox")
    }

    /// A sandbox given to [`open`](Self::open) as existing, or made since.
    pub fn find_sandbox(&self, id: &str) -> Result<Sandbox> {
        Err(Error::SandboxNotFound(id.to_owned()))
    }

    /// Joins the sandbox to a network and publishes the ports asked for; all or nothing.
    pub fn attach(
        &self,
        _sandbox: &Sandbox,
        network: &str,
        _request: EndpointRequest,
    ) -> Result<Endpoint> {
        Err(Error::NetworkNotFound(network.to_owned()))
    }

    /// Takes the sandbox out of a network: ports, addresses and interface go.
    pub fn detach(&self, _sandbox_id: &str, network: &str) -> Result<()> {
        Err(Error::NetworkNotFound(network.to_owned()))
    }

    /// Endpoints of a network, for `network inspect`.
    pub fn endpoints(&self, _network: &str) -> Result<Vec<Endpoint>> {
        Ok(Vec::new())
    }

    /// Ends a sandbox and all its endpoints. Its ports are free when this returns; the kernel objects go in the
    /// background. An unknown ID is no error.
    pub fn release(&self, _sandbox_id: &str) -> Result<()> {
        Ok(())
    }

    /// Changes the name under which a container's endpoints are found (`rename`).
    pub fn rename(&self, _container_id: &str, _name: &str) {}

    /// Builds again whatever of bridges and rules others removed. Rule changes are also noticed by themselves.
    pub fn reconcile(&self) -> Result<()> {
        Ok(())
    }

    /// Ends background work; sandboxes and rules stay for the next engine. Also done by drop.
    pub fn shutdown(&self) {}

    /// Removes every kernel object of this instance: for tests and for uninstalling.
    pub fn destroy(self) -> Result<()> {
        Ok(())
    }
}
