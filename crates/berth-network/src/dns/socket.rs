//! The resolver's sockets inside a sandbox.
//!
//! They sit on ports of the kernel's choice, and a rule inside the sandbox leads port 53 of 127.0.0.11 to them: so a
//! container can be a name server itself, on port 53 of all its addresses.

use std::io;
use std::net::{TcpListener, UdpSocket};

use crate::nft::expression::{Header, Hook, Meta, R0, Register, Table};
use crate::nft::message::Family;
use crate::nft::{Batch, Nft};
use crate::port::Protocol;
use crate::resolv_conf::EMBEDDED;
use crate::sandbox::Sandbox;
use crate::{Error, Result, netns};

const TABLE: &str = "berth-dns";
const DSTNAT: i32 = -100;
const TO_ADDRESS: Register = Register(8);
const TO_PORT: Register = Register(9);

/// Both sockets of one sandbox.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

/// Opens them and leads port 53 there, in the place of those of an earlier engine.
pub(crate) fn open(sandbox: &Sandbox) -> Result<Sockets> {
    netns::enter(sandbox.netns(), || {
        let udp = UdpSocket::bind((EMBEDDED, 0))?;
        let tcp = TcpListener::bind((EMBEDDED, 0))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let ports = [
            (Protocol::Udp, udp.local_addr()?.port()),
            (Protocol::Tcp, tcp.local_addr()?.port()),
        ];
        lead(&ports)?;
        Ok(Sockets { udp, tcp })
    })
    .map_err(|e| Error::kernel(format!("open the resolver of sandbox {}", sandbox.id()), e))
}

fn lead(ports: &[(Protocol, u16)]) -> io::Result<()> {
    let mut batch = Batch::new();
    let mut table = Table {
        family: Family::Ipv4,
        name: TABLE,
        batch: &mut batch,
    };
    table.replace();
    table.base_chain("output", "nat", Hook::Output, DSTNAT);
    for (protocol, port) in ports {
        table.rule("output", |r| {
            r.payload(Header::Network, 16, 4, R0)
                .equals(R0, &EMBEDDED.octets())
                .meta(Meta::L4Proto, R0)
                .equals(R0, &[protocol.number()])
                .payload(Header::Transport, 2, 2, R0)
                .equals(R0, &super::PORT.to_be_bytes())
                .constant(&EMBEDDED.octets(), TO_ADDRESS)
                .constant(&port.to_be_bytes(), TO_PORT)
                .redirect_to(Family::Ipv4, TO_ADDRESS, TO_PORT);
        });
    }
    Nft::open()?.commit(batch).map_err(|(_, error)| error)
}
