//! Host ports: who has which.
//!
//! A port is claimed by binding a socket to it and keeping it, so that neither another container nor another program of the
//! host can have it too. No packet reaches the IPv4 sockets: the rules lead them to the container first. The IPv6 ones are
//! handed to [`crate::proxy`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::port::{HostPort, PortBinding, Protocol, PublishedPort};
use crate::{Error, Result};

/// Ports that the kernel gives to those who ask for any, if it does not say (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// Connections that wait to be taken by the proxy.
const BACKLOG: i32 = 128;

#[derive(Debug)]
struct Claim {
    owner: String,
    host: IpAddr,
    /// None of a protocol that this kernel has not (the claim is then known to this engine only), and of those handed on.
    socket: Option<OwnedFd>,
}

/// All claims of an engine.
#[derive(Debug)]
pub(crate) struct Claims {
    held: BTreeMap<(Protocol, u16), Vec<Claim>>,
    ephemeral: (u16, u16),
    /// The last port given to someone who did not care.
    last: u16,
}

impl Claims {
    pub(crate) fn new() -> Self {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let numbers: Vec<u16> = text
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let ephemeral = match numbers[..] {
            [low, high] if 0 < low && low < high => (low, high),
            _ => EPHEMERAL,
        };
        Self {
            held: BTreeMap::new(),
            ephemeral,
            last: ephemeral.1,
        }
    }

    /// Claims what all `bindings` ask for, or nothing. Those without an address get `default`, or all addresses. A container
    /// with IPv4 alone has no SCTP ports on IPv6, which nobody could carry across.
    pub(crate) fn claim(
        &mut self,
        owner: &str,
        bindings: &[PortBinding],
        ways: (Option<IpAddr>, bool),
    ) -> Result<Vec<PublishedPort>> {
        let mut published = Vec::new();
        for binding in bindings {
            match self.one(owner, binding, ways) {
                Ok(ports) => published.extend(ports),
                Err(e) => {
                    self.release(owner, &published);
                    return Err(e);
                }
            }
        }
        Ok(published)
    }

    /// Claims again what an earlier engine gave.
    pub(crate) fn restore(&mut self, owner: &str, port: &PublishedPort) -> Result<()> {
        self.exactly(owner, port)
    }

    /// Frees these ports of `owner`.
    pub(crate) fn release(&mut self, owner: &str, ports: &[PublishedPort]) {
        for port in ports {
            let key = (port.protocol, port.host_port);
            if let Some(claims) = self.held.get_mut(&key) {
                claims.retain(|c| c.owner != owner || c.host != port.host_ip);
                if claims.is_empty() {
                    self.held.remove(&key);
                }
            }
        }
    }

    /// Hands on the socket of a claim, which then lasts as long as the socket and the claim both do.
    pub(crate) fn take_socket(&mut self, owner: &str, port: &PublishedPort) -> Option<OwnedFd> {
        let claims = self.held.get_mut(&(port.protocol, port.host_port))?;
        let mut own = claims
            .iter_mut()
            .filter(|c| c.owner == owner && c.host == port.host_ip);
        own.next()?.socket.take()
    }

    fn one(
        &mut self,
        owner: &str,
        binding: &PortBinding,
        ways: (Option<IpAddr>, bool),
    ) -> Result<Vec<PublishedPort>> {
        let ((low, high), last) = (self.ephemeral, self.last);
        let mut on = |host_port| self.on_addresses(owner, binding, ways, host_port);
        match binding.host_port {
            HostPort::Exact(port) if port != 0 => on(port),
            HostPort::Exact(_) | HostPort::Any => {
                let after = last.clamp(low, high);
                let candidates = (after..=high).skip(1).chain(low..=after);
                let found = first_free(candidates, on)?;
                if let Some(port) = found.as_ref().and_then(|ports| ports.first()) {
                    self.last = port.host_port;
                }
                found.ok_or(Error::PortsExhausted(low, high))
            }
            HostPort::Range(low, high) => {
                first_free(low.max(1)..=high, on)?.ok_or(Error::PortsExhausted(low, high))
            }
        }
    }

    fn on_addresses(
        &mut self,
        owner: &str,
        binding: &PortBinding,
        (default, has_ipv6): (Option<IpAddr>, bool),
        host_port: u16,
    ) -> Result<Vec<PublishedPort>> {
        let everywhere = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        let given = binding.host_ip.or(default).map(|ip| [ip]);
        let carried = has_ipv6 || binding.protocol != Protocol::Sctp;
        let everywhere = if carried {
            &everywhere[..]
        } else {
            &everywhere[..1]
        };
        let hosts = given.as_ref().map_or(everywhere, |ip| &ip[..]);
        if !carried && hosts.iter().any(IpAddr::is_ipv6) {
            return Err(Error::Invalid(format!(
                "SCTP port {host_port} cannot be published on an IPv6 address: the container's network has no IPv6"
            )));
        }
        let mut published = Vec::new();
        for host_ip in hosts {
            let port = PublishedPort {
                container_port: binding.container_port,
                protocol: binding.protocol,
                host_ip: *host_ip,
                host_port,
            };
            match self.exactly(owner, &port) {
                Ok(()) => published.push(port),
                // A host without IPv6 publishes on IPv4 alone, if nobody named an address.
                Err(Error::Kernel { .. }) if given.is_none() && host_ip.is_ipv6() => {}
                Err(e) => {
                    self.release(owner, &published);
                    return Err(e);
                }
            }
        }
        Ok(published)
    }

    fn exactly(&mut self, owner: &str, port: &PublishedPort) -> Result<()> {
        let key = (port.protocol, port.host_port);
        let overlaps = |other: &Claim| {
            let (a, b) = (other.host, port.host_ip);
            a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
        };
        if self.held.get(&key).is_some_and(|c| c.iter().any(overlaps)) {
            return Err(Error::PortAllocated(port.host()));
        }
        let socket = bind(port.protocol, port.host())?;
        self.held.entry(key).or_default().push(Claim {
            owner: owner.to_owned(),
            host: port.host_ip,
            socket,
        });
        Ok(())
    }
}

/// The first port of `candidates` that nobody has; other failures end the search.
fn first_free(
    candidates: impl Iterator<Item = u16>,
    mut claim: impl FnMut(u16) -> Result<Vec<PublishedPort>>,
) -> Result<Option<Vec<PublishedPort>>> {
    for port in candidates {
        match claim(port) {
            Ok(ports) => return Ok(Some(ports)),
            Err(Error::PortAllocated(_)) => {}
            Err(Error::PortInUse { reason, .. }) if reason == IN_USE => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

const IN_USE: &str = "address already in use";

/// A socket that keeps others from `address`.
fn bind(protocol: Protocol, address: SocketAddr) -> Result<Option<OwnedFd>> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, net::ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, net::ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, net::ipproto::SCTP),
    };
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let attempt = || format!("claim {protocol} port {address}");
    let socket = match net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
        Ok(socket) => socket,
        Err(rustix::io::Errno::PROTONOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        Err(e) => return Err(Error::kernel(attempt(), e)),
    };
    let prepare = || -> io::Result<()> {
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if protocol == Protocol::Tcp {
            // Connections that an earlier holder of the port closed a minute ago do not count.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        Ok(())
    };
    prepare().map_err(|e| Error::kernel(attempt(), e))?;
    // Where the rules are gone for a moment, or do not apply, a client meets silence and tries again. IPv6 goes by here.
    if address.is_ipv4() {
        berth_sys::socket_filter::receive_nothing(&socket)
            .map_err(|e| Error::kernel(attempt(), e))?;
    }
    let hold = || -> rustix::io::Result<()> {
        net::bind(&socket, &address)?;
        // Only a listener keeps out those who also say SO_REUSEADDR.
        if protocol == Protocol::Tcp {
            net::listen(&socket, if address.is_ipv4() { 0 } else { BACKLOG })?;
        }
        Ok(())
    };
    match hold() {
        Ok(()) => Ok(Some(socket)),
        Err(rustix::io::Errno::ADDRNOTAVAIL)
            if address.is_ipv6() && address.ip().is_unspecified() =>
        {
            Err(Error::kernel(attempt(), rustix::io::Errno::ADDRNOTAVAIL))
        }
        Err(e) => Err(Error::PortInUse {
            address,
            protocol,
            family: if address.is_ipv4() { 4 } else { 6 },
            reason: words(e),
        }),
    }
}

/// The kernel's refusal as Go, and so Docker, puts it.
fn words(error: rustix::io::Errno) -> String {
    use rustix::io::Errno;
    match error {
        Errno::ADDRINUSE => IN_USE.to_owned(),
        Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        other => io::Error::from(other).to_string(),
    }
}
