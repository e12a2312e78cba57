//! The one handle the engine holds.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::background::{Background, Remains, Target, with_cause};
use crate::dns::{self, Resolver};
use crate::names::Names;
use crate::netns::Directory;
use crate::options::NetworkOptions;
use crate::port::{PortBinding, PublishedPort};
use crate::record::{Driver, Endpoint, EndpointRequest, Existing, NetworkRecord, NetworkSpec};
use crate::route::Route;
use crate::sandbox::Sandbox;
use crate::state::{Fresh, Room, State, isolated, ruleset};
use crate::watch::Watch;
use crate::{
    Error, Result, attach, bridge, create, forward_policy, macvlan, open, publish, repair, veth,
};

/// All networks of one engine. Every call blocks and may be made from any thread.
#[derive(Debug)]
pub struct Networks {
    inner: Arc<Inner>,
    watch: Watch,
}

/// What the handle and its threads share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub options: NetworkOptions,
    pub names: Names,
    pub directory: Arc<Directory>,
    pub background: Background,
    pub resolver: Resolver,
    state: Mutex<State>,
}

impl Inner {
    /// Tells the background which bridge sandboxes are made for.
    pub(crate) fn aim(&self, state: &State) {
        if let Ok(network) = state.network("bridge") {
            self.background.aim(Target {
                bridge: network.bridge,
                mtu: attach::mtu(&network.record, state.mtu),
                isolated: isolated(&network.record, &self.options),
            });
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst one endpoint half made; `repair` looks at the kernel afresh.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Networks {
    /// Makes the kernel agree with `existing`: bridges, rules and published ports are there afterwards, and what no
    /// record tells of (of this instance only) is gone. The first time `existing` is empty and the predefined
    /// networks are made; record [`list`](Self::list) then, and after each start: the default network follows the
    /// options.
    pub fn open(options: NetworkOptions, existing: Existing) -> Result<Self> {
        let names = Names::new(&options);
        let directory = Arc::new(Directory::open(&options.run_dir)?);
        let state = open::open(&names, &directory, &options, existing)?;
        let background = Background::start(names.clone(), Arc::clone(&directory), options.ready)?;
        let inner = Arc::new(Inner {
            options,
            names,
            directory,
            background,
            resolver: Resolver::default(),
            state: Mutex::new(state),
        });
        let watch = Watch::start(&inner)?;
        let networks = Self { inner, watch };
        networks.inner.aim(&networks.inner.state());
        networks.answer_again();
        Ok(networks)
    }

    /// Opens the resolver again in sandboxes that were taken over.
    fn answer_again(&self) {
        let state = self.inner.state();
        let named = |room: &&Room| {
            room.members.iter().any(|member| {
                let network = state.networks.get(&member.endpoint.network_id);
                network.is_some_and(|n| n.record.dns)
            })
        };
        let sandboxes: Vec<_> = state
            .rooms
            .values()
            .filter(named)
            .map(|r| r.sandbox.clone())
            .collect();
        drop(state);
        for sandbox in sandboxes {
            if let Err(e) = self.answer_in(&sandbox) {
                tracing::warn!("{}", with_cause(&e));
            }
        }
    }

    /// Opens the resolver in a sandbox.
    fn answer_in(&self, sandbox: &Sandbox) -> Result<()> {
        let sockets = dns::open(sandbox)?;
        self.inner.resolver.open(&self.inner, sandbox.id(), sockets)
    }

    /// The network named `bridge`.
    pub fn default_network(&self) -> Result<NetworkRecord> {
        self.get("bridge")
    }

    /// What `host-gateway` stands for: addresses of the host that containers reach.
    pub fn host_gateways(&self) -> Vec<IpAddr> {
        if !self.inner.options.host_gateway.is_empty() {
            return self.inner.options.host_gateway.clone();
        }
        let default = self.default_network().ok();
        let gateways = default.map(|n| [n.gateway.map(IpAddr::V4), n.gateway6.map(IpAddr::V6)]);
        gateways.into_iter().flatten().flatten().collect()
    }

    /// All networks, `bridge`, `host` and `none` included.
    pub fn list(&self) -> Vec<NetworkRecord> {
        let state = self.inner.state();
        state.networks.values().map(|n| n.record.clone()).collect()
    }

    /// The network of this name, ID or unambiguous start of an ID.
    pub fn get(&self, name_or_id: &str) -> Result<NetworkRecord> {
        let state = self.inner.state();
        state.network(name_or_id).map(|n| n.record.clone())
    }

    /// Makes a user-defined bridge network. Record what comes back.
    pub fn create(&self, spec: NetworkSpec) -> Result<NetworkRecord> {
        let Inner { names, options, .. } = &*self.inner;
        create::create(&mut self.inner.state(), names, options, spec)
    }

    /// As [`create`](Self::create); `keep` records it before anybody else sees it. Where that fails the network
    /// goes again.
    pub fn create_recorded<E: From<Error>>(
        &self,
        spec: NetworkSpec,
        keep: impl FnOnce(&NetworkRecord) -> std::result::Result<(), E>,
    ) -> std::result::Result<NetworkRecord, E> {
        let Inner { names, options, .. } = &*self.inner;
        let mut state = self.inner.state();
        let record = create::create(&mut state, names, options, spec)?;
        if let Err(error) = keep(&record) {
            create::remove(&mut state, names, options, &record.id)?;
            return Err(error);
        }
        Ok(record)
    }

    /// As [`remove`](Self::remove); `forget` removes its record before anybody else sees that it is gone: who has seen
    /// that does not find it again, whenever the engine ends.
    pub fn remove_recorded<E: From<Error>>(
        &self,
        name_or_id: &str,
        forget: impl FnOnce(&NetworkRecord) -> std::result::Result<(), E>,
    ) -> std::result::Result<NetworkRecord, E> {
        let Inner { names, options, .. } = &*self.inner;
        let mut state = self.inner.state();
        let record = create::removable(&state, name_or_id)?;
        forget(&record)?;
        Ok(create::remove(&mut state, names, options, &record.id)?)
    }

    /// Removes a user-defined network that has no endpoint.
    pub fn remove(&self, name_or_id: &str) -> Result<NetworkRecord> {
        let Inner { names, options, .. } = &*self.inner;
        create::remove(&mut self.inner.state(), names, options, name_or_id)
    }

    /// A sandbox for a container of the default network, from those kept ready if there is one.
    pub fn sandbox(&self) -> Result<Sandbox> {
        self.fresh(true).map(|fresh| self.admit(fresh))
    }

    /// A sandbox with loopback only, for mode `none` and for user-defined networks; from those kept ready too.
    pub fn sandbox_none(&self) -> Result<Sandbox> {
        self.fresh(false).map(|fresh| self.admit(fresh))
    }

    /// The same over a network namespace that was made elsewhere: one that belongs to a user namespace,
    /// whose root then rules it.
    pub fn sandbox_over(&self, netns: OwnedFd) -> Result<Sandbox> {
        let fresh = self.inner.background.adopt(netns)?;
        Ok(self.admit(fresh))
    }

    fn fresh(&self, with_veth: bool) -> Result<Fresh> {
        if let Some(fresh) = self.inner.background.take(with_veth) {
            return Ok(fresh);
        }
        // A socket of its own, so that others need not wait for this.
        let mut host = Route::open().map_err(|e| Error::kernel("open a netlink socket", e))?;
        self.inner.background.make(&mut host, with_veth)
    }

    fn admit(&self, fresh: Fresh) -> Sandbox {
        let sandbox = fresh.sandbox.clone();
        let room = Room {
            sandbox: fresh.sandbox,
            route: fresh.route,
            spare: fresh.veth,
            members: Vec::new(),
        };
        let mut state = self.inner.state();
        state.rooms.insert(sandbox.id().to_owned(), room);
        sandbox
    }

    /// A sandbox given to [`open`](Self::open) as existing, or made since.
    pub fn find_sandbox(&self, id: &str) -> Result<Sandbox> {
        let state = self.inner.state();
        let room = state.rooms.get(id);
        room.map(|room| room.sandbox.clone())
            .ok_or_else(|| Error::SandboxNotFound(id.to_owned()))
    }

    /// Joins the sandbox to a network and publishes the ports asked for; all or nothing.
    pub fn attach(
        &self,
        sandbox: &Sandbox,
        network: &str,
        request: EndpointRequest,
    ) -> Result<Endpoint> {
        let context = (&self.inner.names, &self.inner.options);
        let mut state = self.inner.state();
        let endpoint = attach::attach(&mut state, context, sandbox.id(), network, request)?;
        let names = |id: &str| state.networks.get(id).is_some_and(|n| n.record.dns);
        let room = state.rooms.get(sandbox.id());
        let named = room.map_or(0, |room| {
            let ids = room.members.iter().map(|m| &*m.endpoint.network_id);
            ids.filter(|id| names(id)).count()
        });
        let first = names(&endpoint.network_id) && named == 1;
        drop(state);
        self.inner.background.forget_udp(&endpoint.ports);
        if first && let Err(e) = self.answer_in(sandbox) {
            self.detach(sandbox.id(), &endpoint.network_id)?;
            return Err(e);
        }
        Ok(endpoint)
    }

    /// Publishes more ports of an endpoint while its container runs; all or none. Record what comes back.
    pub fn publish(&self, endpoint_id: &str, ports: &[PortBinding]) -> Result<Endpoint> {
        let Inner { names, options, .. } = &*self.inner;
        let mut state = self.inner.state();
        let endpoint = publish::publish(&mut state, names, options, endpoint_id, ports)?;
        drop(state);
        self.inner.background.forget_udp(&endpoint.ports);
        Ok(endpoint)
    }

    /// Takes back published ports of an endpoint. Record what comes back.
    pub fn unpublish(&self, endpoint_id: &str, ports: &[PublishedPort]) -> Result<Endpoint> {
        let mut state = self.inner.state();
        let endpoint = publish::unpublish(&mut state, &self.inner.names, endpoint_id, ports)?;
        drop(state);
        self.inner.background.forget_udp(ports);
        Ok(endpoint)
    }

    /// Takes the sandbox out of a network: ports, addresses and interface go.
    pub fn detach(&self, sandbox_id: &str, network: &str) -> Result<()> {
        let mut state = self.inner.state();
        let left = attach::detach(&mut state, &self.inner.names, sandbox_id, network)?;
        drop(state);
        self.inner.background.forget_udp(&left.endpoint.ports);
        // Others need not wait for the kernel's grace periods.
        if left.veth.host.is_empty() {
            attach::remove_interface(&mut self.inner.state(), sandbox_id, &left.veth);
            return Ok(());
        }
        let mut host = Route::open().map_err(|e| Error::kernel("open a netlink socket", e))?;
        veth::remove(&mut host, &left.veth.host);
        Ok(())
    }

    /// Endpoints of a network, for `network inspect`.
    pub fn endpoints(&self, network: &str) -> Result<Vec<Endpoint>> {
        let state = self.inner.state();
        let id = &state.network(network)?.record.id;
        Ok(state.endpoints(id).cloned().collect())
    }

    /// Ends a sandbox and all its endpoints. Its ports are free when this returns; the kernel objects go in the
    /// background. An unknown ID is no error.
    pub fn release(&self, sandbox_id: &str) -> Result<()> {
        let mut state = self.inner.state();
        let Some(room) = state.rooms.remove(sandbox_id) else {
            return Ok(());
        };
        attach::forget(&mut state, &self.inner.names, &room.members);
        drop(state);
        for member in &room.members {
            self.inner.background.forget_udp(&member.endpoint.ports);
        }
        self.inner.resolver.close(sandbox_id);
        let spare = room.spare.into_iter().map(|veth| veth.host);
        let used = room.members.into_iter().map(|member| member.veth.host);
        let used = used.filter(|host| !host.is_empty());
        self.inner.background.bury(Remains {
            id: sandbox_id.to_owned(),
            veths: spare.chain(used).collect(),
            held: Some(Box::new((room.sandbox, room.route))),
        });
        Ok(())
    }

    /// Changes the name under which a container's endpoints are found (`rename`).
    pub fn rename(&self, container_id: &str, name: &str) {
        let mut state = self.inner.state();
        for member in state.rooms.values_mut().flat_map(|room| &mut room.members) {
            if member.endpoint.container_id == container_id {
                name.clone_into(&mut member.endpoint.container_name);
            }
        }
    }

    /// Builds again whatever of bridges and rules others removed. Rule changes are also noticed by themselves.
    pub fn reconcile(&self) -> Result<()> {
        let Inner { names, options, .. } = &*self.inner;
        let mut state = self.inner.state();
        repair::all(&mut state, names, options)?;
        self.inner.aim(&state);
        Ok(())
    }

    /// Chains of the host's firewall (`family table chain`) whose policy drops what is forwarded: published ports are reached
    /// from other machines, and other machines from containers, only as far as rules of these chains accept it.
    pub fn forbidding_chains(&self) -> Vec<String> {
        let mut state = self.inner.state();
        forward_policy::forbidding(&mut state.nft).unwrap_or_default()
    }

    /// Ends background work. Sandboxes in use, and then bridges and rules, stay for the next engine; if none is, all kernel
    /// objects of this instance go. Also done by drop.
    pub fn shutdown(&self) {
        if let Err(e) = self.end() {
            tracing::warn!("{}", with_cause(&e));
        }
    }

    fn end(&self) -> Result<()> {
        let closed = std::mem::replace(&mut self.inner.state().closed, true);
        if closed {
            return Ok(());
        }
        self.watch.stop();
        self.inner.resolver.stop();
        self.inner.background.stop();
        let mut state = self.inner.state();
        if !state.rooms.is_empty() {
            return Ok(());
        }
        let bridges: Vec<_> = state
            .networks
            .values()
            .filter(|n| n.record.driver == Driver::Bridge)
            .map(|n| n.record.bridge.clone())
            // A bridge that the user named is the user's.
            .filter(|name| self.inner.options.bridge_name.as_ref() != Some(name))
            .collect();
        for name in bridges {
            bridge::remove(&mut state.route, &name)?;
        }
        let State {
            networks, route, ..
        } = &mut *state;
        for network in networks
            .values()
            .filter(|n| n.record.driver == Driver::Macvlan)
        {
            macvlan::remove_parent(route, &self.inner.names, &network.record)?;
        }
        if let Err(e) = forward_policy::ensure(&mut state.nft, &self.inner.names, &[]) {
            tracing::warn!("rules beside dockerd's stay: {e}");
        }
        state.commit(ruleset(&self.inner.names).remove())?;
        self.inner
            .directory
            .remove()
            .map_err(|e| Error::kernel("remove the directory of network sandboxes", e))
    }

    /// Removes every kernel object of this instance: for tests and for uninstalling.
    pub fn destroy(self) -> Result<()> {
        let ids: Vec<String> = self.inner.state().rooms.keys().cloned().collect();
        for id in ids {
            self.release(&id)?;
        }
        self.end()?;
        // Those whose namespace somebody still holds.
        let mut state = self.inner.state();
        let links = state
            .route
            .links()
            .map_err(|e| Error::kernel("list interfaces", e))?;
        for name in links.keys().filter(|name| self.inner.names.is_veth(name)) {
            veth::remove(&mut state.route, name);
        }
        Ok(())
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        self.shutdown();
    }
}
