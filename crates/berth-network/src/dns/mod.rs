//! The resolver that containers of user-defined networks find at 127.0.0.11.
//!
//! In every such sandbox the engine holds a UDP and a TCP socket ([`socket`]); one thread ([`server`]) hears all of them.
//! Names of containers are answered from the state ([`zone`], [`answer`]); whatever else is asked goes on to the
//! container's, the engine's or the host's name servers: over UDP by the same thread ([`forward`]), over TCP by a few
//! threads with deadlines ([`stream`]). A sandbox whose networks are all internal gets nothing from outside.

mod answer;
mod forward;
mod server;
mod socket;
mod stream;
mod zone;

pub(crate) use server::Resolver;
pub(crate) use socket::{Sockets, open};

use std::net::{IpAddr, SocketAddr};

/// Most bytes of a message over UDP.
const MOST_UDP: usize = 4096;
/// RFC 1035, 4.2.
const PORT: u16 = 53;

fn at(server: IpAddr) -> SocketAddr {
    SocketAddr::new(server, PORT)
}
