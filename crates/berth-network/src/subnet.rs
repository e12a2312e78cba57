//! Choosing a subnet for a network that has none.

use ipnet::Ipv4Net;

use crate::options::{AddressPool, default_pools};
use crate::{Error, Result};

/// Most subnets looked at in one pool; a /8 cut into /24 has 65,536.
const MOST_TRIED: usize = 1 << 20;

/// Whether two nets share an address.
pub(crate) fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first subnet of `pools` (Docker's if empty) that shares no address with what is in use.
pub(crate) fn free(pools: &[AddressPool], in_use: &[Ipv4Net]) -> Result<Ipv4Net> {
    let default;
    let pools = if pools.is_empty() {
        default = default_pools();
        &default
    } else {
        pools
    };
    pools
        .iter()
        .filter_map(|pool| pool.base.subnets(pool.size).ok())
        .flat_map(|subnets| subnets.take(MOST_TRIED))
        .find(|subnet| !in_use.iter().any(|used| overlap(used, subnet)))
        .ok_or(Error::PoolsExhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_nobody_uses() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
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
}
