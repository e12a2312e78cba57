//! Connections over UDP that the kernel remembers, and forgets only when nobody sends for a while: whoever goes on sending to
//! a port keeps the translation that was right when he began. They are made to be forgotten when the port's holder changes.
//! Numbers are those of linux/netfilter/nfnetlink_conntrack.h.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::{Netlink, attributes, errno};
use crate::port::Protocol;

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `AF_INET`, `AF_INET6`.
const FAMILIES: [u8; 2] = [2, 10];
/// `CTA_TUPLE_ORIG`, and in it `CTA_TUPLE_PROTO` with `CTA_PROTO_NUM` and `CTA_PROTO_DST_PORT`; nested.
const ORIGINAL: u16 = 1;
const NESTED: u16 = 0x8000;
const PROTOCOL: u16 = 2;
const NUMBER: u16 = 1;
const TO_PORT: u16 = 3;
/// Most connections forgotten in one go.
const MOST: usize = 65_536;

/// Makes the kernel forget UDP connections to these ports of the host.
pub(crate) fn forget_udp(ports: &BTreeSet<u16>) -> io::Result<()> {
    let mut socket = Netlink::open(NETLINK_NETFILTER)?;
    FAMILIES
        .into_iter()
        .try_for_each(|family| forget(&mut socket, family, ports))
}

fn forget(socket: &mut Netlink, family: u8, ports: &BTreeSet<u16>) -> io::Result<()> {
    let sequence = socket.next_sequence();
    let mut found = Vec::new();
    let request = message(GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, (family, &[]));
    socket.dump(&request, sequence, |entry| {
        let tuple = attributes(entry.payload().get(4..).unwrap_or_default())
            .find(|(kind, _)| *kind == ORIGINAL)
            .map(|(_, tuple)| tuple);
        if let Some(tuple) = tuple.filter(|t| leads_to(t, ports))
            && found.len() < MOST
        {
            found.push(tuple.to_vec());
        }
    })?;
    for tuple in found {
        let sequence = socket.next_sequence();
        let request = message(
            DELETE,
            NLM_F_REQUEST | NLM_F_ACK,
            sequence,
            (family, &tuple),
        );
        match socket.transact(&request, sequence, sequence, false) {
            // ENOENT: it is forgotten already.
            Err((_, e)) if errno(&e) != Some(2) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn leads_to(tuple: &[u8], ports: &BTreeSet<u16>) -> bool {
    let Some((_, protocol)) = attributes(tuple).find(|(kind, _)| *kind == PROTOCOL) else {
        return false;
    };
    let value = |wanted| {
        attributes(protocol)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value)
    };
    let udp = value(NUMBER) == Some(&[Protocol::Udp.number()][..]);
    let port = value(TO_PORT).and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
    udp && port.is_some_and(|port| ports.contains(&port))
}

/// A message about connections of a family, with one's tuple if there is one.
fn message(kind: u16, flags: u16, sequence: u32, (family, tuple): (u8, &[u8])) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    if !tuple.is_empty() {
        // A tuple came out of a message and fits into one.
        body.extend_from_slice(&(4 + tuple.len() as u16).to_ne_bytes());
        body.extend_from_slice(&(ORIGINAL | NESTED).to_ne_bytes());
        body.extend_from_slice(tuple);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&body);
    bytes
}
