//! rtnetlink: links, addresses, routes and forwarding entries, as the handful of requests that networks need.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::{Ipv4Net, Ipv6Net};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind,
    InfoVeth, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::mac::MacAddr;
use crate::netlink::{Netlink, errno};

/// One request and its flags.
#[derive(Debug)]
pub(crate) struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

/// What the host's links are called.
pub(crate) type Links = BTreeMap<String, u32>;

/// An rtnetlink socket of one network namespace.
#[derive(Debug)]
pub(crate) struct Route(Netlink);

impl Route {
    /// Opens one in the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_ROUTE).map(Self)
    }

    /// Sends the requests in one datagram; the first refusal is the error. Those after it were tried all the same.
    pub(crate) fn batch(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(512);
        let (mut first, mut last) = (None, 0);
        for request in requests {
            last = self.0.next_sequence();
            first.get_or_insert(last);
            write(
                &mut datagram,
                request.message,
                request.flags | NLM_F_REQUEST | NLM_F_ACK,
                last,
            );
        }
        match first {
            Some(first) => self
                .0
                .transact(&datagram, first, last, false)
                .map_err(|(_, error)| error),
            None => Ok(()),
        }
    }

    fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut datagram = Vec::new();
        let sequence = self.0.next_sequence();
        write(&mut datagram, message, NLM_F_REQUEST | NLM_F_DUMP, sequence);
        let mut found = Vec::new();
        self.0.dump(&datagram, sequence, |message| {
            // An entry that this crate cannot read is none of ours.
            if let Ok(NetlinkMessage {
                payload: NetlinkPayload::InnerMessage(inner),
                ..
            }) = NetlinkMessage::deserialize(message.bytes)
            {
                found.push(inner);
            }
        })?;
        Ok(found)
    }

    /// All links of the namespace.
    pub(crate) fn links(&mut self) -> io::Result<Links> {
        Ok(self
            .link_messages()?
            .into_iter()
            .map(|(name, m)| (name, m.header.index))
            .collect())
    }

    fn link_messages(&mut self) -> io::Result<Vec<(String, LinkMessage)>> {
        let named = |message: LinkMessage| {
            let name = message.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            })?;
            Some((name, message))
        };
        let all = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(all
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewLink(link) => named(link),
                _ => None,
            })
            .collect())
    }

    /// Number of the link of this name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<u32>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let sequence = self.0.next_sequence();
        let mut datagram = Vec::new();
        write(
            &mut datagram,
            RouteNetlinkMessage::GetLink(message),
            NLM_F_REQUEST | NLM_F_ACK,
            sequence,
        );
        let mut index = None;
        let found = self.0.dump(&datagram, sequence, |message| {
            // `struct ifinfomsg`: family, padding, type, index.
            index = message
                .payload()
                .get(4..8)
                .and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?)));
        });
        match found {
            Ok(()) => Ok(index),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Destinations of all IPv4 routes of the main table with their link, and of addresses; the default route is `0.0.0.0/0`.
    pub(crate) fn routes(&mut self) -> io::Result<Vec<(Ipv4Net, Option<u32>)>> {
        let mut ask = RouteMessage::default();
        ask.header.address_family = AddressFamily::Inet;
        let all = self.dump(RouteNetlinkMessage::GetRoute(ask))?;
        let mut found = Vec::new();
        for message in all {
            let RouteNetlinkMessage::NewRoute(route) = message else {
                continue;
            };
            if route.header.table != RouteHeader::RT_TABLE_MAIN {
                continue;
            }
            let (mut to, mut link) = (Ipv4Addr::UNSPECIFIED, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(a)) => to = *a,
                    RouteAttribute::Oif(index) => link = Some(*index),
                    _ => {}
                }
            }
            if let Ok(net) = Ipv4Net::new(to, route.header.destination_prefix_length) {
                found.push((net, link));
            }
        }
        Ok(found)
    }

    /// Destinations of all IPv6 routes of the main table, but for the default route and link-local addresses.
    pub(crate) fn routes6(&mut self) -> io::Result<Vec<Ipv6Net>> {
        let mut ask = RouteMessage::default();
        ask.header.address_family = AddressFamily::Inet6;
        let all = self.dump(RouteNetlinkMessage::GetRoute(ask))?;
        let mut found = Vec::new();
        for message in all {
            let RouteNetlinkMessage::NewRoute(route) = message else {
                continue;
            };
            let to = route.attributes.iter().find_map(|a| match a {
                RouteAttribute::Destination(RouteAddress::Inet6(to)) => Some(*to),
                _ => None,
            });
            let len = route.header.destination_prefix_length;
            if route.header.table == RouteHeader::RT_TABLE_MAIN
                && let Some(to) = to.filter(|to| !to.is_unicast_link_local())
                && let Ok(net) = Ipv6Net::new(to, len)
            {
                found.push(net);
            }
        }
        Ok(found)
    }

    /// The first IPv4 address of a link, with the length of its subnet's prefix.
    pub(crate) fn address(&mut self, link: u32) -> io::Result<Option<Ipv4Net>> {
        let mut ask = AddressMessage::default();
        ask.header.family = AddressFamily::Inet;
        let all = self.dump(RouteNetlinkMessage::GetAddress(ask))?;
        Ok(all.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewAddress(found) if found.header.index == link => {
                let local = found.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                    _ => None,
                })?;
                Ipv4Net::new(local, found.header.prefix_len).ok()
            }
            _ => None,
        }))
    }

    /// MTU in bytes of the link that the default route leads through.
    pub(crate) fn default_mtu(&mut self) -> io::Result<Option<u32>> {
        let Some(index) = self
            .routes()?
            .into_iter()
            .find_map(|(net, link)| link.filter(|_| net.prefix_len() == 0))
        else {
            return Ok(None);
        };
        Ok(self
            .link_messages()?
            .into_iter()
            .find(|(_, m)| m.header.index == index)
            .and_then(|(_, m)| {
                m.attributes.iter().find_map(|a| match a {
                    LinkAttribute::Mtu(mtu) => Some(*mtu),
                    _ => None,
                })
            }))
    }
}

fn write(datagram: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = datagram.len();
    datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut datagram[start..start + message.buffer_len()]);
}

/// Whether the kernel said that the object is not there.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    // ENODEV, ENOENT, ENXIO
    matches!(errno(error), Some(19 | 2 | 6))
}

/// Whether the kernel said that the object is there already.
pub(crate) fn exists(error: &io::Error) -> bool {
    errno(error) == Some(17)
}

fn link(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message
}

fn new_link(message: LinkMessage) -> Request {
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

/// A bridge with an Ethernet address of its own, so that it does not change with its ports.
pub(crate) fn add_bridge(name: &str, mac: MacAddr, mtu: u32) -> Request {
    new_link(link(
        0,
        vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::ForwardDelay(0)])),
            ]),
        ],
    ))
}

/// Leads what passes a bridge through the rules for IPv4, too.
pub(crate) fn pass_ip_hooks(bridge: &str) -> Request {
    Request {
        message: RouteNetlinkMessage::NewLink(link(
            0,
            vec![
                LinkAttribute::IfName(bridge.to_owned()),
                LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Bridge),
                    LinkInfo::Data(InfoData::Bridge(vec![
                        InfoBridge::NfCallIpTables(true),
                        InfoBridge::NfCallIp6Tables(true),
                    ])),
                ]),
            ],
        )),
        flags: 0,
    }
}

/// A veth pair: `host` a port of the bridge `bridge`, `peer` born inside `netns`. Both are down.
pub(crate) fn add_veth(
    host: &str,
    bridge: u32,
    peer: &str,
    netns: BorrowedFd<'_>,
    mtu: u32,
) -> Request {
    let inside = link(
        0,
        vec![
            LinkAttribute::IfName(peer.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
        ],
    );
    new_link(link(
        0,
        vec![
            LinkAttribute::IfName(host.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
            ]),
        ],
    ))
}

pub(crate) use netlink_packet_route::link::MacVlanMode as MacvlanMode;

/// A macvlan interface `name`, born inside `netns`, on the link `parent` of this socket's namespace. It is down.
pub(crate) fn add_macvlan(
    name: &str,
    parent: u32,
    netns: BorrowedFd<'_>,
    mode: MacvlanMode,
) -> Request {
    new_link(link(
        0,
        vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])),
            ]),
        ],
    ))
}

/// A veth pair with both ends here. They are down.
pub(crate) fn add_wire(near: &str, far: &str, mtu: u32) -> Request {
    let end = |name: &str| {
        vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
        ]
    };
    let mut attributes = end(near);
    attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(link(0, end(far))))),
    ]));
    new_link(link(0, attributes))
}

/// The VLAN `number` of the link `parent`. It is down.
pub(crate) fn add_vlan(name: &str, parent: u32, number: u16) -> Request {
    new_link(link(
        0,
        vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(number)])),
            ]),
        ],
    ))
}

/// Turns a bridge port up. It learns no addresses and gets no frames for unknown ones: [`pin`] says who is behind it.
/// `isolated` ports do not reach each other. Hairpin lets a container reach itself by a published port where bridged
/// packets pass the IP hooks.
pub(crate) fn port_up(name: &str, isolated: bool) -> Request {
    Request {
        message: RouteNetlinkMessage::NewLink(up(link(
            0,
            vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::LinkInfo(vec![
                    LinkInfo::PortKind(InfoPortKind::Bridge),
                    LinkInfo::PortData(InfoPortData::BridgePort(vec![
                        InfoBridgePort::Learning(false),
                        InfoBridgePort::UnicastFlood(false),
                        InfoBridgePort::HairpinMode(true),
                        InfoBridgePort::Guard(true),
                        InfoBridgePort::Isolated(isolated),
                    ])),
                ]),
            ],
        ))),
        flags: 0,
    }
}

/// Moves a port to another bridge.
pub(crate) fn set_bridge(port: u32, bridge: u32) -> Request {
    Request {
        message: RouteNetlinkMessage::SetLink(link(port, vec![LinkAttribute::Controller(bridge)])),
        flags: 0,
    }
}

/// Turns a link up.
pub(crate) fn set_up(index: u32) -> Request {
    Request {
        message: RouteNetlinkMessage::SetLink(up(link(index, Vec::new()))),
        flags: 0,
    }
}

/// Gives a link its Ethernet address.
pub(crate) fn set_mac(index: u32, mac: MacAddr) -> Request {
    Request {
        message: RouteNetlinkMessage::SetLink(link(
            index,
            vec![LinkAttribute::Address(mac.0.to_vec())],
        )),
        flags: 0,
    }
}

/// Removes a link. Slow: the caller waits for the kernel's grace periods.
pub(crate) fn delete_link(index: u32) -> Request {
    Request {
        message: RouteNetlinkMessage::DelLink(link(index, Vec::new())),
        flags: 0,
    }
}

/// Gives a link an address.
pub(crate) fn add_address(index: u32, net: Ipv4Net) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Address(IpAddr::V4(net.addr())),
        AddressAttribute::Local(IpAddr::V4(net.addr())),
        AddressAttribute::Broadcast(net.broadcast()),
    ];
    Request {
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// Gives a link an IPv6 address that it may use at once: nobody else of the network can have it.
pub(crate) fn add_address6(index: u32, net: Ipv6Net) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Address(IpAddr::V6(net.addr())),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ];
    Request {
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// The default route of IPv6.
pub(crate) fn add_default_route6(index: u32, gateway: Ipv6Addr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::Inet6(gateway)),
        RouteAttribute::Oif(index),
    ];
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// The default route.
pub(crate) fn add_default_route(index: u32, gateway: Ipv4Addr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)),
        RouteAttribute::Oif(index),
    ];
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// Tells the bridge for good which port an Ethernet address is behind.
pub(crate) fn pin(port: u32, mac: MacAddr) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}
