//! What the rules are. Two tables of one name per engine, touched by nobody else and touching nobody else's:
//!
//! ```text
//! table inet berth
//!   set bridges      all bridges of ours
//!   set masquerade   those whose packets take the host's address on the way out
//!   set internal     those with no way out and none in
//!   set talk         (bridge, bridge): those whose endpoints may talk to each other
//!   set members      (address, bridge): endpoints; members6 alike
//!   map published_at (host address, protocol, port) -> (address, port); published6_at alike
//!   map published    (protocol, port) -> (address, port), at any address of the host; published6 alike
//!
//!   guard       prerouting, raw      no packet from a container to the host's loopback
//!   prerouting  prerouting, dstnat   to an address of the host, but for loopback: publish
//!   output      output, dstnat       the same for the host's own programs, loopback included
//!   forward     forward, filter      from and to our bridges only what is allowed; all else is none of our business
//!   postrouting postrouting, srcnat  out: the host's address; back into the same bridge, or from loopback: the bridge's
//!
//! table bridge berth
//!   set members      (port, Ethernet address, IPv4 address): who may say that he is who; members6 alike
//!   guard       prerouting           drops what an endpoint sends under another's addresses
//! ```
//!
//! The host's own programs reach `[::1]` by [`crate::proxy`]: the kernel sends nothing from there to another interface. Of IPv6
//! an endpoint's neighbours hear what it says of its own addresses (RFC 4861), and no router advertisements or redirects.
//!
//! A base chain that accepts ends only itself, so the host's own INPUT and FORWARD rules still decide; a drop is final.
//! Publishing a port and attaching an endpoint are additions of elements; no rule is made for either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expression::{
    DESTINATION_TRANSLATED, ESTABLISHED_OR_RELATED, Header, Hook, Meta, R0, Register, Rule, Table,
    Type, Verdict,
};
use super::message::{Batch, Family};
use crate::mac::MacAddr;
use crate::port::PublishedPort;

/// What the rules know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    pub bridge: String,
    /// No way out and none in.
    pub internal: bool,
    /// Packets on their way out take the host's address.
    pub masquerade: bool,
    /// Endpoints may talk to each other.
    pub icc: bool,
}

/// What the rules know of an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointRules {
    pub bridge: String,
    /// Its port of the bridge.
    pub port: String,
    pub mac: MacAddr,
    pub ip: Ipv4Addr,
    pub ip6: Option<Ipv6Addr>,
    pub published: Vec<PublishedPort>,
}

/// EtherTypes.
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

// Keys and values are put together from here on.
const K0: Register = Register(4);
const K1: Register = Register(5);
const K2: Register = Register(6);
const AFTER_NAME: Register = Register(8);
const AFTER_NAME_AND_ETHER: Register = Register(10);
const TO_ADDRESS: Register = Register(8);
const TO_PORT: Register = Register(9);
// The same with IPv6 addresses, of four registers each.
const AFTER_ADDRESS6: Register = Register(8);
const PORT_AFTER_ADDRESS6: Register = Register(9);
const TO_ADDRESS6: Register = Register(10);
const TO_PORT6: Register = Register(14);

/// ICMPv6 types: RFC 4861, section 4.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OF_ROUTERS: [u8; 2] = [134, 137];

/// An interface's name as a key.
fn name_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    key
}

/// The tables of one engine; `veth_prefix` is what all its bridge ports' names begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ruleset<'a> {
    pub table: &'a str,
    pub veth_prefix: &'a str,
}

impl Ruleset<'_> {
    fn inet<'b>(&'b self, batch: &'b mut Batch) -> Table<'b> {
        Table {
            family: Family::Inet,
            name: self.table,
            batch,
        }
    }

    fn bridge<'b>(&'b self, batch: &'b mut Batch) -> Table<'b> {
        Table {
            family: Family::Bridge,
            name: self.table,
            batch,
        }
    }

    /// Puts these in the place of whatever there is, at once.
    pub(crate) fn replace(&self, networks: &[NetworkRules], endpoints: &[EndpointRules]) -> Batch {
        let mut batch = Batch::new();
        let mut inet = self.inet(&mut batch);
        inet.replace();
        sets(&mut inet);
        guard_loopback(&mut inet);
        publish(&mut inet);
        forward(&mut inet);
        postrouting(&mut inet);
        let mut bridge = self.bridge(&mut batch);
        bridge.replace();
        self.guard_ports(&mut bridge);
        for network in networks {
            self.add_network(&mut batch, network);
        }
        for endpoint in endpoints {
            self.add_endpoint(&mut batch, endpoint);
        }
        batch
    }

    /// Removes both tables.
    pub(crate) fn remove(&self) -> Batch {
        let mut batch = Batch::new();
        let mut inet = self.inet(&mut batch);
        inet.create();
        inet.delete();
        let mut bridge = self.bridge(&mut batch);
        bridge.create();
        bridge.delete();
        batch
    }

    /// Only ports of ours are looked at; their endpoints may send ARP, IPv4 and IPv6 under their own addresses, nothing else.
    fn guard_ports(&self, table: &mut Table<'_>) {
        let sender = |rule: &mut Rule<'_, '_>, protocol: [u8; 2]| {
            rule.meta(Meta::Protocol, R0).equals(R0, &protocol);
            rule.meta(Meta::InName, K0);
        };
        table.set("members", &[Type::Interface, Type::Ether, Type::Ipv4]);
        table.set("members6", &[Type::Interface, Type::Ether, Type::Ipv6]);
        table.base_chain("guard", "filter", Hook::Prerouting, RAW);
        table.chain("port");
        table.rule("guard", |r| {
            r.meta(Meta::InName, R0)
                .equals(R0, self.veth_prefix.as_bytes())
                .verdict(Verdict::Jump("port"));
        });
        table.rule("port", |r| {
            sender(r, IPV4);
            r.payload(Header::Link, 6, 6, AFTER_NAME)
                .payload(Header::Network, 12, 4, AFTER_NAME_AND_ETHER)
                .within("members", K0)
                .verdict(Verdict::Accept);
        });
        // The addresses that an ARP packet tells of: RFC 826, with 6-byte and 4-byte addresses.
        table.rule("port", |r| {
            sender(r, [0x08, 0x06]);
            r.payload(Header::Network, 8, 6, AFTER_NAME)
                .payload(Header::Network, 14, 4, AFTER_NAME_AND_ETHER)
                .within("members", K0)
                .verdict(Verdict::Accept);
        });
        for kind in OF_ROUTERS {
            table.rule("port", |r| {
                sender(r, IPV6);
                r.icmpv6(kind).verdict(Verdict::Drop);
            });
        }
        // Whoever asks whether an address is free has none to ask from; it is his own that he may ask for.
        table.rule("port", |r| {
            sender(r, IPV6);
            r.icmpv6(SOLICITATION)
                .payload(Header::Network, 8, 16, AFTER_NAME)
                .equals(AFTER_NAME, &[0; 16])
                .payload(Header::Link, 6, 6, AFTER_NAME)
                .payload(Header::Transport, 8, 16, AFTER_NAME_AND_ETHER)
                .within("members6", K0)
                .verdict(Verdict::Accept);
        });
        table.rule("port", |r| {
            sender(r, IPV6);
            r.icmpv6(ADVERTISEMENT)
                .payload(Header::Link, 6, 6, AFTER_NAME)
                .payload(Header::Transport, 8, 16, AFTER_NAME_AND_ETHER)
                .not_within("members6", K0)
                .verdict(Verdict::Drop);
        });
        table.rule("port", |r| {
            sender(r, IPV6);
            r.payload(Header::Link, 6, 6, AFTER_NAME)
                .payload(Header::Network, 8, 16, AFTER_NAME_AND_ETHER)
                .within("members6", K0)
                .verdict(Verdict::Accept);
        });
        table.rule("port", |r| r.verdict(Verdict::Drop));
    }

    /// Adds a network's bridge.
    pub(crate) fn add_network(&self, batch: &mut Batch, network: &NetworkRules) {
        self.network(batch, network, |table, set, key| table.add(set, key, None));
    }

    /// Removes a network's bridge.
    pub(crate) fn remove_network(&self, batch: &mut Batch, network: &NetworkRules) {
        self.network(batch, network, |table, set, key| table.remove(set, key));
    }

    fn network(
        &self,
        batch: &mut Batch,
        network: &NetworkRules,
        mut change: impl FnMut(&mut Table<'_>, &str, &[u8]),
    ) {
        let mut table = self.inet(batch);
        let name = name_key(&network.bridge);
        change(&mut table, "bridges", &name);
        if network.internal {
            change(&mut table, "internal", &name);
        } else if network.masquerade {
            change(&mut table, "masquerade", &name);
        }
        if network.icc {
            change(&mut table, "talk", &[name, name].concat());
        }
    }

    /// Adds an endpoint and its published ports.
    pub(crate) fn add_endpoint(&self, batch: &mut Batch, endpoint: &EndpointRules) {
        self.endpoint(batch, endpoint, |table, set, key, value| {
            table.add(set, key, value);
        });
    }

    /// Removes published ports of an endpoint that stays.
    pub(crate) fn remove_ports(
        &self,
        batch: &mut Batch,
        endpoint: &EndpointRules,
        gone: &[PublishedPort],
    ) {
        let mut table = self.inet(batch);
        ports(&mut table, endpoint, gone, |table, set, key, _| {
            table.remove(set, key);
        });
    }

    /// Removes an endpoint and its published ports.
    pub(crate) fn remove_endpoint(&self, batch: &mut Batch, endpoint: &EndpointRules) {
        self.endpoint(batch, endpoint, |table, set, key, _| table.remove(set, key));
    }

    fn endpoint(
        &self,
        batch: &mut Batch,
        endpoint: &EndpointRules,
        mut change: impl FnMut(&mut Table<'_>, &str, &[u8], Option<&[u8]>),
    ) {
        let ip = endpoint.ip.octets();
        let mut table = self.inet(batch);
        let member = [&ip[..], &name_key(&endpoint.bridge)].concat();
        change(&mut table, "members", &member, None);
        if let Some(ip6) = endpoint.ip6 {
            let member = [&ip6.octets()[..], &name_key(&endpoint.bridge)].concat();
            change(&mut table, "members6", &member, None);
        }
        ports(&mut table, endpoint, &endpoint.published, &mut change);
        let mac = endpoint.mac.0;
        let member = [&name_key(&endpoint.port)[..], &mac, &[0; 2], &ip].concat();
        change(&mut self.bridge(batch), "members", &member, None);
        for ip6 in endpoint
            .ip6
            .into_iter()
            .flat_map(|ip| [ip, endpoint.mac.link_local()])
        {
            let member = [&name_key(&endpoint.port)[..], &mac, &[0; 2], &ip6.octets()].concat();
            change(&mut self.bridge(batch), "members6", &member, None);
        }
    }
}

/// Changes the elements of published ports.
fn ports(
    table: &mut Table<'_>,
    endpoint: &EndpointRules,
    published: &[PublishedPort],
    mut change: impl FnMut(&mut Table<'_>, &str, &[u8], Option<&[u8]>),
) {
    for port in published {
        let (any, one, host, ip) = match (port.host_ip, endpoint.ip6) {
            (IpAddr::V4(host), _) => (
                "published",
                "published_at",
                host.octets().to_vec(),
                endpoint.ip.octets().to_vec(),
            ),
            (IpAddr::V6(host), Some(ip6)) if !host.is_loopback() => (
                "published6",
                "published6_at",
                host.octets().to_vec(),
                ip6.octets().to_vec(),
            ),
            (IpAddr::V6(_), _) => continue,
        };
        let at_any = [[port.protocol.number(), 0, 0, 0], padded(port.host_port)].concat();
        let to = [&ip[..], &padded(port.container_port)].concat();
        if port.host_ip.is_unspecified() {
            change(table, any, &at_any, Some(&to));
        } else {
            change(table, one, &[host, at_any].concat(), Some(&to));
        }
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn sets(table: &mut Table<'_>) {
    for set in ["bridges", "masquerade", "internal"] {
        table.set(set, &[Type::Interface]);
    }
    table.set("talk", &[Type::Interface, Type::Interface]);
    for (members, published_at, published, address) in [
        ("members", "published_at", "published", Type::Ipv4),
        ("members6", "published6_at", "published6", Type::Ipv6),
    ] {
        table.set(members, &[address, Type::Interface]);
        let to = [address, Type::Port];
        table.map(published_at, &[address, Type::Protocol, Type::Port], &to);
        table.map(published, &[Type::Protocol, Type::Port], &to);
    }
}

/// Bridges have `route_localnet`, for published ports on 127.0.0.1: nothing else may use it.
fn guard_loopback(table: &mut Table<'_>) {
    table.base_chain("guard", "filter", Hook::Prerouting, RAW);
    for to in [true, false] {
        table.rule("guard", |r| {
            r.meta(Meta::InName, R0).within("bridges", R0).ipv4();
            if to {
                r.loopback_destination();
            } else {
                r.loopback_source();
            }
            r.verdict(Verdict::Drop);
        });
    }
}

fn publish(table: &mut Table<'_>) {
    table.chain("publish");
    table.rule("publish", |r| {
        r.payload(Header::Network, 16, 4, K0)
            .meta(Meta::L4Proto, K1)
            .payload(Header::Transport, 2, 2, K2)
            .mapped("published_at", K0, TO_ADDRESS)
            .redirect_to(Family::Ipv4, TO_ADDRESS, TO_PORT);
    });
    table.rule("publish", |r| {
        r.meta(Meta::L4Proto, K1)
            .payload(Header::Transport, 2, 2, K2)
            .mapped("published", K1, TO_ADDRESS)
            .redirect_to(Family::Ipv4, TO_ADDRESS, TO_PORT);
    });
    table.chain("publish6");
    table.rule("publish6", |r| {
        r.payload(Header::Network, 24, 16, K0)
            .meta(Meta::L4Proto, AFTER_ADDRESS6)
            .payload(Header::Transport, 2, 2, PORT_AFTER_ADDRESS6)
            .mapped("published6_at", K0, TO_ADDRESS6)
            .redirect_to(Family::Ipv6, TO_ADDRESS6, TO_PORT6);
    });
    table.rule("publish6", |r| {
        r.meta(Meta::L4Proto, AFTER_ADDRESS6)
            .payload(Header::Transport, 2, 2, PORT_AFTER_ADDRESS6)
            .mapped("published6", AFTER_ADDRESS6, TO_ADDRESS6)
            .redirect_to(Family::Ipv6, TO_ADDRESS6, TO_PORT6);
    });
    table.base_chain("prerouting", "nat", Hook::Prerouting, DSTNAT);
    // A port on 127.0.0.1 is for this host's programs. Translation comes before the kernel's own check for such packets.
    table.rule("prerouting", |r| {
        r.ipv4().loopback_destination().verdict(Verdict::Return);
    });
    // A network without a way out has none through the host's addresses either.
    table.rule("prerouting", |r| {
        r.meta(Meta::InName, R0)
            .within("internal", R0)
            .verdict(Verdict::Return);
    });
    table.base_chain("output", "nat", Hook::Output, DSTNAT);
    for chain in ["prerouting", "output"] {
        table.rule(chain, |r| {
            r.ipv4().own_destination().verdict(Verdict::Jump("publish"));
        });
        table.rule(chain, |r| {
            r.ipv6().loopback_destination6().verdict(Verdict::Return);
        });
        table.rule(chain, |r| {
            r.ipv6()
                .own_destination()
                .verdict(Verdict::Jump("publish6"));
        });
    }
}

fn forward(table: &mut Table<'_>) {
    table.base_chain("forward", "filter", Hook::Forward, FILTER);
    table.rule("forward", |r| {
        r.meta(Meta::InName, R0)
            .not_within("bridges", R0)
            .meta(Meta::OutName, R0)
            .not_within("bridges", R0)
            .verdict(Verdict::Accept);
    });
    table.rule("forward", |r| {
        r.connection_state(ESTABLISHED_OR_RELATED)
            .verdict(Verdict::Accept);
    });
    table.rule("forward", |r| {
        r.meta(Meta::InName, K0)
            .meta(Meta::OutName, AFTER_NAME)
            .within("talk", K0)
            .verdict(Verdict::Accept);
    });
    for side in [Meta::InName, Meta::OutName] {
        table.rule("forward", |r| {
            r.meta(side, R0)
                .within("internal", R0)
                .verdict(Verdict::Drop);
        });
    }
    table.rule("forward", |r| {
        r.connection_status(DESTINATION_TRANSLATED)
            .verdict(Verdict::Accept);
    });
    table.rule("forward", |r| {
        r.meta(Meta::OutName, R0)
            .within("bridges", R0)
            .verdict(Verdict::Drop);
    });
}

fn postrouting(table: &mut Table<'_>) {
    table.base_chain("postrouting", "nat", Hook::Postrouting, SRCNAT);
    // Back into the bridge it came from: the answer has to come by the host, which knows the translation.
    table.rule("postrouting", |r| {
        r.ipv4()
            .connection_status(DESTINATION_TRANSLATED)
            .payload(Header::Network, 12, 4, K0)
            .meta(Meta::OutName, K1)
            .within("members", K0)
            .masquerade();
    });
    table.rule("postrouting", |r| {
        r.ipv4()
            .loopback_source()
            .meta(Meta::OutName, R0)
            .within("bridges", R0)
            .masquerade();
    });
    table.rule("postrouting", |r| {
        r.ipv6()
            .connection_status(DESTINATION_TRANSLATED)
            .payload(Header::Network, 8, 16, K0)
            .meta(Meta::OutName, AFTER_ADDRESS6)
            .within("members6", K0)
            .masquerade();
    });
    table.rule("postrouting", |r| {
        r.meta(Meta::InName, R0)
            .within("masquerade", R0)
            .meta(Meta::OutName, R0)
            .not_within("bridges", R0)
            .masquerade();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Nft;
    use crate::port::Protocol;

    fn network(bridge: &str) -> NetworkRules {
        NetworkRules {
            bridge: bridge.into(),
            internal: false,
            masquerade: true,
            icc: true,
        }
    }

    fn endpoint() -> EndpointRules {
        let port = |host_ip: &str, host_port| PublishedPort {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
        };
        EndpointRules {
            bridge: "br0".into(),
            port: "bvabcdefg".into(),
            mac: "02:42:0a:00:00:02".parse().unwrap(),
            ip: Ipv4Addr::new(10, 0, 0, 2),
            ip6: Some("fd00::2".parse().unwrap()),
            published: vec![
                port("0.0.0.0", 8080),
                port("127.0.0.1", 8081),
                port("::", 8080),
                port("::1", 8081),
                port("fd00::1", 8082),
            ],
        }
    }

    /// In a network namespace of its own, so that this machine's rules are not touched.
    fn alone(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(|| {
            berth_sys::netns::unshare_network().unwrap();
            test();
        })
        .join()
        .unwrap();
    }

    fn listed() -> Option<String> {
        let nft = testkit::find_command("nft")?;
        let out = std::process::Command::new(nft)
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        Some(String::from_utf8(out.stdout).unwrap())
    }

    #[test]
    fn the_kernel_takes_the_rules_and_their_changes() {
        alone(|| {
            let rules = Ruleset {
                table: "berth-test",
                veth_prefix: "bvabcdef",
            };
            let mut nft = Nft::open().unwrap();
            let (net, end) = (network("br0"), endpoint());
            nft.commit(rules.replace(std::slice::from_ref(&net), std::slice::from_ref(&end)))
                .unwrap();
            if let Some(text) = listed() {
                for part in [
                    "tcp . 8080 : 10.0.0.2 . 80",
                    "127.0.0.1 . tcp . 8081 : 10.0.0.2 . 80",
                    "10.0.0.2 . \"br0\"",
                    "tcp . 8080 : fd00::2 . 80",
                    "fd00::1 . tcp . 8082 : fd00::2 . 80",
                    "fd00::2 . \"br0\"",
                    "02:42:0a:00:00:02 . fe80::42:aff:fe00:2",
                    "fib daddr type local",
                ] {
                    assert!(text.contains(part), "{part} is not in {text}");
                }
            }
            let mut batch = Batch::new();
            rules.remove_endpoint(&mut batch, &end);
            rules.remove_network(&mut batch, &net);
            rules.add_network(&mut batch, &network("br1"));
            nft.commit(batch).unwrap();
            // All or nothing: the endpoint is no longer there.
            let mut batch = Batch::new();
            rules.add_network(&mut batch, &network("br2"));
            rules.remove_endpoint(&mut batch, &end);
            let (subject, error) = nft.commit(batch).unwrap_err();
            assert_eq!(subject, "an element of members", "{error}");
            if let Some(text) = listed() {
                assert!(text.contains("br1") && !text.contains("br2"), "{text}");
            }
            nft.commit(rules.remove()).unwrap();
            assert!(listed().is_none_or(|text| text.is_empty()));
        });
    }
}
