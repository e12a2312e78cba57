//! Veth pairs between a bridge and a sandbox.

use std::io;
use std::os::fd::BorrowedFd;

use crate::names::Names;
use crate::route::{self, Route};
use crate::state::{Veth, random};
use crate::{Error, Result, sysctl};

/// What a veth pair connects and how.
pub(crate) struct Plan<'a> {
    /// Name of the host's end; a random one if absent.
    pub host: Option<&'a str>,
    /// Number of the bridge.
    pub bridge: u32,
    /// Name of the end inside.
    pub inside: &'a str,
    pub netns: BorrowedFd<'a>,
    pub mtu: u32,
    /// The port reaches no other such port.
    pub isolated: bool,
}

/// Makes a pair, both ends up. `host` and `inside` speak to the two namespaces.
pub(crate) fn make(
    names: &Names,
    plan: &Plan<'_>,
    host: &mut Route,
    inside: &mut Route,
) -> Result<Veth> {
    let name = match plan.host {
        Some(name) => name.to_owned(),
        None => names.veth(random()?),
    };
    let on =
        |e: io::Error| Error::kernel(format!("make the interface {} ({name})", plan.inside), e);
    host.batch(vec![route::add_veth(
        &name,
        plan.bridge,
        plan.inside,
        plan.netns,
        plan.mtu,
    )])
    .map_err(on)?;
    // A bridge port speaks no IPv6 of its own.
    sysctl::set_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
    let mut finish = || -> io::Result<Veth> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let inside_index = inside.link(plan.inside)?.ok_or_else(missing)?;
        inside.batch(vec![route::set_up(inside_index)])?;
        host.batch(vec![route::port_up(&name, plan.isolated)])?;
        Ok(Veth {
            host_index: host.link(&name)?.ok_or_else(missing)?,
            host: name.clone(),
            inside: plan.inside.to_owned(),
            inside_index,
        })
    };
    let finished = finish();
    finished.map_err(|e| {
        remove(host, &name);
        on(e)
    })
}

/// Removes a pair by the name of the host's end; says so in the log where that fails.
pub(crate) fn remove(host: &mut Route, name: &str) {
    let removed = match host.link(name) {
        Ok(Some(index)) => host.batch(vec![route::delete_link(index)]),
        Ok(None) => Ok(()),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if !route::is_gone(&e) => tracing::warn!("cannot remove the interface {name}: {e}"),
        _ => {}
    }
}
