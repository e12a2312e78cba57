//! Choosing a subnet for a network that has none.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::names::hash;
use crate::options::{AddressPool, default_pools};
use crate::{Error, Result};

/// Most subnets looked at in one pool; a /8 cut into /24 has 65,536.
const MOST_TRIED: usize = 1 << 20;
/// Where systemd and others keep what tells this machine from all others.
const MACHINE_ID: &str = "/etc/machine-id";

/// Whether two nets share an address.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first subnet of `pools` (Docker's if there is none of IPv4) that shares no address with what is in use.
pub(crate) fn free(pools: &[AddressPool], in_use: &[IpNet]) -> Result<Ipv4Net> {
    let default;
    let is_v4 = |pool: &AddressPool| pool.base.addr().is_ipv4();
    let pools = if pools.iter().any(is_v4) {
        pools
    } else {
        default = default_pools();
        &default
    };
    first(pools.iter().filter(|p| is_v4(p)), in_use)
        .and_then(|subnet| match subnet {
            IpNet::V4(subnet) => Some(subnet),
            IpNet::V6(_) => None,
        })
        .ok_or(Error::PoolsExhausted)
}

/// The same of IPv6. Without a pool, a /64 of the range that RFC 4193 gives to this engine of this machine.
pub(crate) fn free6(pools: &[AddressPool], instance: &str, in_use: &[IpNet]) -> Result<Ipv6Net> {
    let is_v6 = |pool: &&AddressPool| pool.base.addr().is_ipv6();
    let own = [local_pool(instance)];
    let pools: Vec<_> = match pools.iter().any(|p| is_v6(&p)) {
        true => pools.iter().filter(is_v6).collect(),
        false => own.iter().collect(),
    };
    first(pools.into_iter(), in_use)
        .and_then(|subnet| match subnet {
            IpNet::V6(subnet) => Some(subnet),
            IpNet::V4(_) => None,
        })
        .ok_or(Error::PoolsExhausted)
}

fn first<'a>(pools: impl Iterator<Item = &'a AddressPool>, in_use: &[IpNet]) -> Option<IpNet> {
    pools
        .filter_map(|pool| pool.base.subnets(pool.size).ok())
        .flat_map(|subnets| subnets.take(MOST_TRIED))
        .find(|subnet| !in_use.iter().any(|used| overlap(used, subnet)))
}

/// `fd`, 40 bits that are the same each time and others elsewhere, and 16 for subnets.
fn local_pool(instance: &str) -> AddressPool {
    let machine = std::fs::read_to_string(MACHINE_ID).unwrap_or_default();
    let [a, b, c, d, e, ..] =
        hash(format!("{}/{instance}", machine.trim()).as_bytes()).to_be_bytes();
    let base = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    AddressPool {
        base: IpNet::new_assert(IpAddr::V6(base), 48),
        size: 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_that_nobody_uses() {
        let free = |pools: &[AddressPool], used: &[IpNet]| free(pools, used).map(IpNet::V4);
        assert_eq!(free(&[], &[]).unwrap(), net("172.17.0.0/16"));
        let used = [net("172.16.0.0/13"), net("172.24.5.0/24")];
        assert_eq!(free(&[], &used).unwrap(), net("172.25.0.0/16"));
        let used = [net("172.16.0.0/12")];
        assert_eq!(free(&[], &used).unwrap(), net("192.168.0.0/20"));
        let pool = AddressPool {
            base: net("10.9.0.0/23"),
            size: 24,
        };
        assert_eq!(
            free(&[pool], &[net("10.9.0.0/28")]).unwrap(),
            net("10.9.1.0/24")
        );
        assert!(matches!(
            free(&[pool], &[net("10.0.0.0/8")]),
            Err(Error::PoolsExhausted)
        ));
    }

    #[test]
    fn ipv6_of_a_pool_or_of_ones_own() {
        let own = free6(&[], "a", &[]).unwrap();
        assert_eq!((own.prefix_len(), own.addr().octets()[0]), (64, 0xfd));
        assert_eq!(free6(&[], "a", &[]).unwrap(), own);
        assert_ne!(free6(&[], "b", &[]).unwrap(), own);
        let next = free6(&[], "a", &[own.into()]).unwrap();
        assert!(next != own && next.addr().octets()[..6] == own.addr().octets()[..6]);
        let pool = AddressPool {
            base: net("fd00:1::/56"),
            size: 64,
        };
        let of_pool = free6(&[pool], "a", &[net("10.0.0.0/8"), net("fd00:1::/64")]);
        assert_eq!(IpNet::V6(of_pool.unwrap()), net("fd00:1:0:1::/64"));
        // An IPv6 pool leaves those of IPv4 as they are.
        assert_eq!(IpNet::V4(free(&[pool], &[]).unwrap()), net("172.17.0.0/16"));
    }
}
