//! Addresses of one subnet: which are given, and which is next.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::record::NetworkRecord;
use crate::{Error, Result};

/// Gives addresses in turn and comes back to a freed one as late as it can, so that a neighbour's cache or a connection
/// that outlived its container does not meet a stranger. Counts in numbers; IPv4's are small ones.
#[derive(Debug)]
pub(crate) struct Addresses {
    subnet: IpNet,
    first: u128,
    end: u128,
    /// Never given: network, broadcast, gateway, what the user reserved.
    kept: BTreeSet<u128>,
    given: BTreeSet<u128>,
    last: u128,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

impl Addresses {
    /// The IPv4 addresses of a network, all free; `None` for one without a subnet.
    pub(crate) fn v4(record: &NetworkRecord) -> Option<Self> {
        let range = record.ip_range.map(IpNet::V4);
        let gateway = record.gateway.map(IpAddr::V4);
        Some(Self::new(record, record.subnet?.into(), range, gateway))
    }

    /// Its IPv6 addresses.
    pub(crate) fn v6(record: &NetworkRecord) -> Option<Self> {
        let range = record.ip_range6.map(IpNet::V6);
        let gateway = record.gateway6.map(IpAddr::V6);
        Some(Self::new(record, record.subnet6?.into(), range, gateway))
    }

    fn new(
        record: &NetworkRecord,
        subnet: IpNet,
        range: Option<IpNet>,
        gateway: Option<IpAddr>,
    ) -> Self {
        let range = range.unwrap_or(subnet);
        let same = |ip: &IpAddr| ip.is_ipv4() == subnet.addr().is_ipv4();
        let reserved = record.reserved.values().copied().filter(same);
        let mut kept: BTreeSet<_> = reserved.chain(gateway).map(number).collect();
        // A /31 (RFC 3021) has neither network nor broadcast address, IPv6 no broadcast at all.
        if subnet.prefix_len() < subnet.max_prefix_len() - 1 {
            kept.insert(number(subnet.network()));
            if let IpNet::V4(subnet) = subnet {
                kept.insert(number(subnet.broadcast().into()));
            }
        }
        let (first, end) = (number(range.network()), number(range.broadcast()));
        Self {
            subnet: subnet.trunc(),
            first,
            end,
            kept,
            given: BTreeSet::new(),
            last: first,
        }
    }

    /// The next free address.
    fn next(&mut self, network: &str) -> Result<u128> {
        let after = self.last.clamp(self.first, self.end);
        let found = (after..=self.end)
            .skip(1)
            .chain(self.first..=after)
            .find(|ip| !self.kept.contains(ip) && !self.given.contains(ip))
            .ok_or_else(|| Error::AddressesExhausted(network.to_owned()))?;
        self.given.insert(found);
        self.last = found;
        Ok(found)
    }

    /// The next free address of an IPv4 subnet.
    pub(crate) fn next_v4(&mut self, network: &str) -> Result<Ipv4Addr> {
        // Numbers of IPv4 subnets have 32 bits.
        self.next(network).map(|ip| Ipv4Addr::from(ip as u32))
    }

    /// The next free address of an IPv6 subnet.
    pub(crate) fn next_v6(&mut self, network: &str) -> Result<Ipv6Addr> {
        self.next(network).map(Ipv6Addr::from)
    }

    /// This address and no other.
    pub(crate) fn take(&mut self, ip: IpAddr) -> Result<()> {
        if !self.subnet.contains(&ip) {
            return Err(Error::Invalid(format!(
                "invalid endpoint settings: no configured subnet contains IP address {ip}"
            )));
        }
        let ip = number(ip);
        if self.kept.contains(&ip) || !self.given.insert(ip) {
            return Err(Error::AddressInUse);
        }
        Ok(())
    }

    /// An address that an earlier engine gave.
    pub(crate) fn restore(&mut self, ip: IpAddr) {
        let ip = number(ip);
        self.given.insert(ip);
        if (self.first..=self.end).contains(&ip) {
            self.last = self.last.max(ip);
        }
    }

    pub(crate) fn free(&mut self, ip: IpAddr) {
        self.given.remove(&number(ip));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ipnet::Ipv4Net;

    use super::*;
    use crate::record::Driver;

    fn record(subnet: &str, range: Option<&str>) -> NetworkRecord {
        let subnet: Ipv4Net = subnet.parse().unwrap();
        NetworkRecord {
            id: String::new(),
            name: "n".into(),
            created: 0,
            driver: Driver::Bridge,
            bridge: String::new(),
            subnet: Some(subnet),
            ip_range: range.map(|r| r.parse().unwrap()),
            gateway: subnet.hosts().next(),
            subnet6: None,
            ip_range6: None,
            gateway6: None,
            reserved: BTreeMap::from([
                ("x".into(), "10.0.0.3".parse().unwrap()),
                ("y".into(), "fd00::3".parse().unwrap()),
            ]),
            internal: false,
            dns: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            made_parent: false,
        }
    }

    fn addresses(subnet: &str, range: Option<&str>) -> Addresses {
        Addresses::v4(&record(subnet, range)).unwrap()
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn in_turn_late_reuse_and_an_end() {
        let mut pool = addresses("10.0.0.0/29", None);
        let next = |pool: &mut Addresses| pool.next_v4("n").ok();
        // .1 is the gateway, .3 reserved, .7 broadcast.
        assert_eq!(next(&mut pool), Some(ip(2)));
        assert_eq!(next(&mut pool), Some(ip(4)));
        pool.free(ip(2).into());
        assert_eq!(next(&mut pool), Some(ip(5)));
        assert_eq!(next(&mut pool), Some(ip(6)));
        assert_eq!(next(&mut pool), Some(ip(2)));
        assert_eq!(next(&mut pool), None);
        pool.free(ip(5).into());
        let taken = pool.take(ip(4).into());
        assert!(matches!(taken, Err(Error::AddressInUse)));
        assert!(matches!(pool.take(ip(1).into()), Err(Error::AddressInUse)));
        assert!(matches!(pool.take(ip(9).into()), Err(Error::Invalid(_))));
        pool.take(ip(5).into()).unwrap();
    }

    #[test]
    fn a_range_and_what_was_given_before() {
        let mut pool = addresses("10.0.0.0/24", Some("10.0.0.128/30"));
        pool.restore(ip(129).into());
        assert_eq!(pool.next_v4("n").unwrap(), ip(130));
        assert_eq!(pool.next_v4("n").unwrap(), ip(131));
        assert_eq!(pool.next_v4("n").unwrap(), ip(128));
        assert!(pool.next_v4("n").is_err());
        pool.take(ip(9).into()).unwrap();
    }

    #[test]
    fn ipv6_alike() {
        let mut record = record("10.0.0.0/24", None);
        assert!(Addresses::v6(&record).is_none());
        record.subnet6 = Some("fd00::/64".parse().unwrap());
        record.gateway6 = Some("fd00::1".parse().unwrap());
        let mut pool = Addresses::v6(&record).unwrap();
        let at = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        assert_eq!(pool.next_v6("n").unwrap(), at(2));
        assert_eq!(pool.next_v6("n").unwrap(), at(4));
        assert!(matches!(pool.take(at(0).into()), Err(Error::AddressInUse)));
        pool.take("fd00::ffff:ffff:ffff:ffff".parse().unwrap())
            .unwrap();
        let outside = pool.take("fd01::1".parse().unwrap());
        assert!(matches!(outside, Err(Error::Invalid(_))));
    }
}
