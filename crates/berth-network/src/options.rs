//! Settings of the networks of one engine.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A range that subnets are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole range.
    pub base: IpNet,
    /// Prefix length of each subnet cut from it.
    pub size: u8,
}

/// Settings of [`crate::Networks`].
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Distinguishes engines on one machine; empty for the default one. Goes into the names of tables and interfaces.
    pub instance: String,
    /// Exec-root of the engine; sandboxes are kept under `netns/` in it.
    pub run_dir: PathBuf,
    /// Address and prefix of the default bridge (`--bip`), as in `192.168.5.1/24`.
    pub bip: Option<Ipv4Net>,
    /// Part of the default network's subnet that addresses are given from (`--fixed-cidr`).
    pub fixed_cidr: Option<Ipv4Net>,
    /// Endpoints of the default network have IPv6 too (`--ipv6`).
    pub ipv6: bool,
    /// The IPv6 subnet of the default network (`--fixed-cidr-v6`); chosen as for others if absent.
    pub fixed_cidr6: Option<Ipv6Net>,
    /// Name of the default bridge (`-b`); `berth0` for the default instance, else derived from the instance.
    pub bridge_name: Option<String>,
    /// Pools for networks without a subnet of their own (`--default-address-pool`); Docker's if empty.
    pub pools: Vec<AddressPool>,
    /// MTU in bytes; that of the default route's link if absent.
    pub mtu: Option<u32>,
    /// Host address for bindings without one (`--ip`); all addresses if absent.
    pub default_binding: Option<IpAddr>,
    /// Containers of the default network may talk to each other (`--icc`).
    pub icc: bool,
    /// Outbound packets take the host's address (`--ip-masq`).
    pub masquerade: bool,
    /// The engine may set `net.ipv4.ip_forward` (`--ip-forward`).
    pub ip_forward: bool,
    /// How many sandboxes are kept ready for the default network, and as many without any; 0 to make each when it is asked for.
    pub ready: usize,
    /// What `host-gateway` and, in user-defined networks, `host.docker.internal` stand for (`--host-gateway-ip`); the gateway
    /// of the default network, or of the asker's, if empty.
    pub host_gateway: Vec<IpAddr>,
    /// Name servers that the resolver at 127.0.0.11 forwards to; the host's if empty (`--dns`).
    pub dns: Vec<IpAddr>,
}

impl NetworkOptions {
    /// Docker's defaults for an instance that keeps its sandboxes under `run_dir`.
    pub fn new(instance: impl Into<String>, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            instance: instance.into(),
            run_dir: run_dir.into(),
            bip: None,
            fixed_cidr: None,
            ipv6: false,
            fixed_cidr6: None,
            bridge_name: None,
            pools: Vec::new(),
            mtu: None,
            default_binding: None,
            icc: true,
            masquerade: true,
            ip_forward: true,
            ready: 2,
            host_gateway: Vec::new(),
            dns: Vec::new(),
        }
    }
}

/// Docker's default pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20.
pub fn default_pools() -> Vec<AddressPool> {
    let pool = |a, b, len, size| {
        Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), len)
            .ok()
            .map(|base| AddressPool {
                base: base.into(),
                size,
            })
    };
    let mut pools: Vec<_> = [(17, 16), (18, 16), (19, 16), (20, 14), (24, 14), (28, 14)]
        .into_iter()
        .filter_map(|(b, len)| pool(172, b, len, 16))
        .collect();
    pools.extend(pool(192, 168, 16, 20));
    pools
}
