//! Networks of the `macvlan` driver: each endpoint is an interface of its own on a link of the host's, seen by that link's
//! network as a machine. The kernel passes its packets by the host's rules, so nothing is published or forbidden here, and the
//! host itself does not reach it.
//!
//! The parent is a link of the host's (`-o parent=eth0`), a VLAN of one (`eth0.10`), made if it is not there, or without either a
//! link of our own that leads nowhere.

use std::io;

use crate::names::{Names, hash};
use crate::netlink::errno;
use crate::record::NetworkRecord;
use crate::route::{self, MacvlanMode, Route};
use crate::state::{OPTION_MACVLAN_MODE, OPTION_PARENT, Veth};
use crate::{Error, Result, bridge, sysctl};

/// Longest name of an interface.
const MOST_NAME: usize = 15;

/// How endpoints of the network see each other.
pub(crate) fn mode(record: &NetworkRecord) -> Result<MacvlanMode> {
    match record.options.get(OPTION_MACVLAN_MODE).map(String::as_str) {
        None | Some("" | "bridge") => Ok(MacvlanMode::Bridge),
        Some("private") => Ok(MacvlanMode::Private),
        Some("vepa") => Ok(MacvlanMode::Vepa),
        Some("passthru") => Ok(MacvlanMode::Passthrough),
        Some(other) => Err(Error::Invalid(format!(
            "requested macvlan mode '{}' is not valid, 'bridge' mode is the macvlan driver default",
            other.chars().take(40).collect::<String>()
        ))),
    }
}

/// The parent's name as the user has it, checked.
pub(crate) fn parent(record: &NetworkRecord) -> Result<Option<&str>> {
    let Some(name) = record.options.get(OPTION_PARENT).filter(|p| !p.is_empty()) else {
        return Ok(None);
    };
    let fits = name.len() <= MOST_NAME
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if fits && name != "lo" {
        return Ok(Some(name));
    }
    Err(Error::Invalid(format!(
        "loopback interface or invalid name {:?} is not a valid macvlan parent link",
        name.chars().take(40).collect::<String>()
    )))
}

/// `eth0.10` as link and VLAN.
fn vlan(name: &str) -> Option<(&str, u16)> {
    let (link, number) = name.rsplit_once('.')?;
    let number = number.parse().ok()?;
    ((1..=4094).contains(&number) && !link.is_empty()).then_some((link, number))
}

/// Makes sure that the parent is there and up. Gives its number, and whether it was made now.
pub(crate) fn ensure_parent(
    host: &mut Route,
    names: &Names,
    record: &NetworkRecord,
    mtu: u32,
) -> Result<(u32, bool)> {
    let own = names.bridge(&record.id);
    let name = parent(record)?.unwrap_or(&own);
    let on = |e: io::Error| Error::kernel(format!("set up the parent interface {name}"), e);
    let there = host.link(name).map_err(on)?;
    if there.is_none() {
        if name == own {
            make_own(host, names, record, mtu).map_err(on)?;
        } else {
            make_vlan(host, name)?;
        }
    }
    let index = host.link(name).map_err(on)?;
    let index = index.ok_or_else(|| on(io::ErrorKind::NotFound.into()))?;
    // The user's own link is up or down as he likes.
    if there.is_none() {
        host.batch(vec![route::set_up(index)]).map_err(on)?;
    }
    Ok((index, there.is_none()))
}

/// Names of the parent that a network without one has: a wire with two ends, and nobody at either.
pub(crate) fn own_links(names: &Names, record: &NetworkRecord) -> [String; 2] {
    let far = names.veth(hash(record.id.as_bytes()));
    [names.bridge(&record.id), far]
}

/// A bridge would do but for its carrier, which it has with its first port only.
fn make_own(host: &mut Route, names: &Names, record: &NetworkRecord, mtu: u32) -> io::Result<()> {
    let [near, far] = own_links(names, record);
    host.batch(vec![route::add_wire(&near, &far, mtu)])?;
    for end in [&near, &far] {
        sysctl::set_if_there(&format!("ipv6/conf/{end}/disable_ipv6"), "1");
    }
    match host.link(&far)? {
        Some(index) => host.batch(vec![route::set_up(index)]),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn make_vlan(host: &mut Route, name: &str) -> Result<()> {
    let missing = || {
        Error::Invalid(format!(
            "invalid macvlan parent {name}: no such interface, and not a VLAN of one (as in eth0.10)"
        ))
    };
    let (link, number) = vlan(name).ok_or_else(missing)?;
    let on = |e: io::Error| Error::kernel(format!("make the VLAN interface {name}"), e);
    let index = host.link(link).map_err(on)?.ok_or_else(missing)?;
    match host.batch(vec![route::add_vlan(name, index, number)]) {
        Err(e) if is_unknown(&e) => Err(Error::Invalid(format!(
            "cannot make the VLAN interface {name}: this kernel has no VLANs (CONFIG_VLAN_8021Q)"
        ))),
        other => other.map_err(on),
    }
}

/// Whether the kernel does not know this kind of link.
fn is_unknown(error: &io::Error) -> bool {
    // EOPNOTSUPP
    errno(error) == Some(95)
}

/// Removes what [`ensure_parent`] made.
pub(crate) fn remove_parent(host: &mut Route, names: &Names, record: &NetworkRecord) -> Result<()> {
    let own = names.bridge(&record.id);
    match parent(record)? {
        None => bridge::remove(host, &own),
        Some(name) if record.made_parent => bridge::remove(host, name),
        Some(_) => Ok(()),
    }
}

/// What an endpoint's interface is to be.
pub(crate) struct Plan<'a> {
    /// Number of the parent.
    pub parent: u32,
    pub mode: MacvlanMode,
    /// Its name inside.
    pub inside: &'a str,
    pub netns: std::os::fd::BorrowedFd<'a>,
}

/// Makes an endpoint's interface inside the sandbox, up and without an address.
pub(crate) fn make(plan: &Plan<'_>, host: &mut Route, inside: &mut Route) -> Result<Veth> {
    let on = |e: io::Error| Error::kernel(format!("make the macvlan interface {}", plan.inside), e);
    let request = route::add_macvlan(plan.inside, plan.parent, plan.netns, plan.mode);
    match host.batch(vec![request]) {
        Err(e) if is_unknown(&e) => {
            return Err(Error::Invalid(
                "the macvlan driver needs a kernel with CONFIG_MACVLAN".into(),
            ));
        }
        other => other.map_err(on)?,
    }
    let index = inside.link(plan.inside).map_err(on)?;
    let inside_index = index.ok_or_else(|| on(io::ErrorKind::NotFound.into()))?;
    Ok(Veth {
        // There is no other end.
        host: String::new(),
        host_index: 0,
        inside: plan.inside.to_owned(),
        inside_index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_read() {
        assert_eq!(vlan("eth0.10"), Some(("eth0", 10)));
        assert_eq!(vlan("a.b.4094"), Some(("a.b", 4094)));
        for none in ["eth0", "eth0.", ".10", "eth0.0", "eth0.4095", "eth0.x"] {
            assert_eq!(vlan(none), None, "{none}");
        }
    }
}
