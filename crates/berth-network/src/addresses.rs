//! Addresses of one network: which are given, and which is next.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::record::NetworkRecord;
use crate::{Error, Result};

/// Gives addresses in turn and comes back to a freed one as late as it can, so that a neighbour's cache or a connection
/// that outlived its container does not meet a stranger.
#[derive(Debug)]
pub(crate) struct Addresses {
    subnet: Ipv4Net,
    range: Ipv4Net,
    /// Never given: network, broadcast, gateway, what the user reserved.
    kept: BTreeSet<Ipv4Addr>,
    given: BTreeSet<Ipv4Addr>,
    last: Ipv4Addr,
}

impl Addresses {
    /// Those of a network, all free; `None` for one without a subnet.
    pub(crate) fn new(record: &NetworkRecord) -> Option<Self> {
        let subnet = record.subnet?.trunc();
        let range = record.ip_range.map_or(subnet, |r| r.trunc());
        let mut kept: BTreeSet<_> = record
            .reserved
            .values()
            .filter_map(|ip| match ip {
                std::net::IpAddr::V4(ip) => Some(*ip),
                std::net::IpAddr::V6(_) => None,
            })
            .chain(record.gateway)
            .collect();
        // A /31 (RFC 3021) has neither network nor broadcast address.
        if subnet.prefix_len() < 31 {
            kept.extend([subnet.network(), subnet.broadcast()]);
        }
        Some(Self {
            subnet,
            range,
            kept,
            given: BTreeSet::new(),
            last: range.network(),
        })
    }

    /// The next free address.
    pub(crate) fn next(&mut self, network: &str) -> Result<Ipv4Addr> {
        let (first, end) = (
            u32::from(self.range.network()),
            u32::from(self.range.broadcast()),
        );
        let after = u32::from(self.last).clamp(first, end);
        let found = (after..=end)
            .skip(1)
            .chain(first..=after)
            .map(Ipv4Addr::from)
            .find(|ip| !self.kept.contains(ip) && !self.given.contains(ip))
            .ok_or_else(|| Error::AddressesExhausted(network.to_owned()))?;
        self.given.insert(found);
        self.last = found;
        Ok(found)
    }

    /// This address and no other.
    pub(crate) fn take(&mut self, ip: Ipv4Addr) -> Result<()> {
        if !self.subnet.contains(&ip) {
            return Err(Error::Invalid(format!(
                "invalid endpoint settings: no configured subnet contains IP address {ip}"
            )));
        }
        if self.kept.contains(&ip) || !self.given.insert(ip) {
            return Err(Error::AddressInUse);
        }
        Ok(())
    }

    /// An address that an earlier engine gave.
    pub(crate) fn restore(&mut self, ip: Ipv4Addr) {
        self.given.insert(ip);
        if self.range.contains(&ip) {
            self.last = self.last.max(ip);
        }
    }

    pub(crate) fn free(&mut self, ip: Ipv4Addr) {
        self.given.remove(&ip);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::Driver;

    fn addresses(subnet: &str, range: Option<&str>) -> Addresses {
        let subnet: Ipv4Net = subnet.parse().unwrap();
        Addresses::new(&NetworkRecord {
            id: String::new(),
            name: "n".into(),
            created: 0,
            driver: Driver::Bridge,
            bridge: String::new(),
            subnet: Some(subnet),
            ip_range: range.map(|r| r.parse().unwrap()),
            gateway: subnet.hosts().next(),
            reserved: BTreeMap::from([("x".into(), "10.0.0.3".parse().unwrap())]),
            internal: false,
            dns: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        })
        .unwrap()
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn in_turn_late_reuse_and_an_end() {
        let mut pool = addresses("10.0.0.0/29", None);
        let next = |pool: &mut Addresses| pool.next("n").ok();
        // .1 is the gateway, .3 reserved, .7 broadcast.
        assert_eq!(next(&mut pool), Some(ip(2)));
        assert_eq!(next(&mut pool), Some(ip(4)));
        pool.free(ip(2));
        assert_eq!(next(&mut pool), Some(ip(5)));
        assert_eq!(next(&mut pool), Some(ip(6)));
        assert_eq!(next(&mut pool), Some(ip(2)));
        assert_eq!(next(&mut pool), None);
        pool.free(ip(5));
        assert!(matches!(pool.take(ip(4)), Err(Error::AddressInUse)));
        assert!(matches!(pool.take(ip(1)), Err(Error::AddressInUse)));
        assert!(matches!(pool.take(ip(9)), Err(Error::Invalid(_))));
        pool.take(ip(5)).unwrap();
    }

    #[test]
    fn a_range_and_what_was_given_before() {
        let mut pool = addresses("10.0.0.0/24", Some("10.0.0.128/30"));
        pool.restore(ip(129));
        assert_eq!(pool.next("n").unwrap(), ip(130));
        assert_eq!(pool.next("n").unwrap(), ip(131));
        assert_eq!(pool.next("n").unwrap(), ip(128));
        assert!(pool.next("n").is_err());
        pool.take(ip(9)).unwrap();
    }
}
