//! Letting the host forward packets, which a new machine does not.

use crate::options::NetworkOptions;
use crate::route::Route;
use crate::{Error, Result, sysctl};

/// Turns on forwarding of IPv4, unless the options forbid it.
pub(crate) fn turn_on(options: &NetworkOptions) -> Result<()> {
    if !options.ip_forward {
        return Ok(());
    }
    sysctl::set("ipv4/ip_forward", "1").map_err(|e| Error::kernel("turn on net.ipv4.ip_forward", e))
}

/// The same of IPv6. A host that forwards no longer listens to its routers, unless told to for each interface: those that did so
/// far go on, so that the host keeps its own way out.
pub(crate) fn turn_on_ipv6(host: &mut Route, options: &NetworkOptions) -> Result<()> {
    let setting = "ipv6/conf/all/forwarding";
    if !options.ip_forward || sysctl::is(setting, "1") {
        return Ok(());
    }
    let links = host
        .links()
        .map_err(|e| Error::kernel("list interfaces", e))?;
    for link in links.keys() {
        let listens = format!("ipv6/conf/{link}/accept_ra");
        if sysctl::is(&listens, "1") {
            sysctl::set_if_there(&listens, "2");
        }
    }
    if sysctl::is("ipv6/conf/default/accept_ra", "1") {
        sysctl::set_if_there("ipv6/conf/default/accept_ra", "2");
    }
    sysctl::set(setting, "1").map_err(|e| {
        Error::kernel(
            "turn on net.ipv6.conf.all.forwarding (does this host have IPv6?)",
            e,
        )
    })
}
