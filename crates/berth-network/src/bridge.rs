//! Bridges on the host.

use std::io;
use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::mac::MacAddr;
use crate::names::hash;
use crate::record::NetworkRecord;
use crate::route::{self, Route};
use crate::{Error, Result, sysctl};

/// What a network wants of its bridge.
pub(crate) struct Wish {
    /// In bytes.
    pub mtu: u32,
    /// Its ports may talk to each other.
    pub icc: bool,
}

/// Whether this kernel can lead bridged packets through the IP hooks (`br_netfilter`).
pub(crate) fn passes_ip_hooks() -> bool {
    std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
}

/// Makes the network's bridge, or brings the one that is there to what the network wants. Gives its number and whether it
/// was made now.
pub(crate) fn ensure(host: &mut Route, record: &NetworkRecord, wish: &Wish) -> Result<(u32, bool)> {
    let name = &record.bridge;
    let on = |e: io::Error| Error::kernel(format!("set up the bridge {name}"), e);
    let mut made = false;
    if host.link(name).map_err(on)?.is_none() {
        let added = host.batch(vec![route::add_bridge(name, mac(record), wish.mtu)]);
        match added {
            Ok(()) => made = true,
            Err(e) if route::exists(&e) => {}
            Err(e) => return Err(on(e)),
        }
    }
    settings(name, record.subnet6.is_some());
    let index = host
        .link(name)
        .map_err(on)?
        .ok_or_else(|| on(io::ErrorKind::NotFound.into()))?;
    let mut requests = vec![route::set_up(index)];
    if !wish.icc && passes_ip_hooks() {
        // Whatever the setting for all bridges becomes.
        requests.push(route::pass_ip_hooks(name));
    }
    requests.extend(address(record).map(|net| route::add_address(index, net)));
    requests.extend(address6(record).map(|net| route::add_address6(index, net)));
    host.batch(requests).map_err(on)?;
    Ok((index, made))
}

/// The bridge's own address.
fn address(record: &NetworkRecord) -> Option<Ipv4Net> {
    let gateway: Ipv4Addr = record.gateway?;
    Ipv4Net::new(gateway, record.subnet?.prefix_len()).ok()
}

/// Its IPv6 address.
fn address6(record: &NetworkRecord) -> Option<Ipv6Net> {
    Ipv6Net::new(record.gateway6?, record.subnet6?.prefix_len()).ok()
}

/// Stays the same when a bridge is made again, for the sake of neighbours' caches.
fn mac(record: &NetworkRecord) -> MacAddr {
    let [a, b, c, d, ..] = hash(record.id.as_bytes()).to_be_bytes();
    MacAddr([0x02, 0x42, a, b, c, d])
}

/// No IPv6 unless asked for, and no router advertisements; published ports work on 127.0.0.1 (the rules keep all else from it).
fn settings(name: &str, ipv6: bool) {
    sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0");
    let off = if ipv6 { "0" } else { "1" };
    sysctl::set_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), off);
    sysctl::set_if_there(&format!("ipv4/conf/{name}/route_localnet"), "1");
}

/// Removes a bridge.
pub(crate) fn remove(host: &mut Route, name: &str) -> Result<()> {
    let on = |e: io::Error| Error::kernel(format!("remove the bridge {name}"), e);
    match host.link(name).map_err(on)? {
        Some(index) => match host.batch(vec![route::delete_link(index)]) {
            Err(e) if !route::is_gone(&e) => Err(on(e)),
            _ => Ok(()),
        },
        None => Ok(()),
    }
}
