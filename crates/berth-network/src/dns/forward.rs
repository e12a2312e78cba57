//! Questions that name servers outside are asked over UDP: each from a socket, and so a port, of its own, under a random
//! number, with a deadline.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::answer::{HEADER, failure};
use super::{MOST_UDP, at};
use crate::state::random;

/// Most questions under way at once, and of those of one sandbox: more are answered with a failure.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 64;
/// How long one server has.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most servers asked for one question.
pub(super) const MOST_SERVERS: usize = 3;

/// Who asked what.
#[derive(Debug)]
pub(super) struct Asked {
    /// Number of the sandbox's sockets.
    pub ear: u64,
    pub client: SocketAddr,
    pub question: Vec<u8>,
}

/// An answer on its way back.
#[derive(Debug)]
pub(super) struct Reply {
    pub ear: u64,
    pub client: SocketAddr,
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Pending {
    asked: Asked,
    /// Servers not yet asked, the next one last.
    servers: Vec<IpAddr>,
    socket: UdpSocket,
    number: [u8; 2],
    deadline: Instant,
}

/// All questions under way.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    pending: HashMap<u64, Pending>,
}

impl Forwards {
    /// When the next deadline is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|p| p.deadline).min()
    }

    /// The socket to listen to for this question.
    pub(super) fn socket(&self, token: u64) -> Option<&UdpSocket> {
        self.pending.get(&token).map(|p| &p.socket)
    }

    /// Asks the first of `servers` (the next ones if it fails) under `token`; gives the failure to tell the client, if it
    /// cannot be.
    pub(super) fn ask(
        &mut self,
        token: u64,
        asked: Asked,
        mut servers: Vec<IpAddr>,
    ) -> Option<Reply> {
        let of_one = self.pending.values().filter(|p| p.asked.ear == asked.ear);
        if self.pending.len() >= MOST || of_one.count() >= MOST_OF_ONE {
            return failed(asked);
        }
        servers.truncate(MOST_SERVERS);
        servers.reverse();
        self.start(token, asked, servers)
    }

    fn start(&mut self, token: u64, asked: Asked, mut servers: Vec<IpAddr>) -> Option<Reply> {
        while let Some(server) = servers.pop() {
            match send(&asked.question, server) {
                Ok((socket, number)) => {
                    let pending = Pending {
                        asked,
                        servers,
                        socket,
                        number,
                        deadline: Instant::now() + PATIENCE,
                    };
                    self.pending.insert(token, pending);
                    return None;
                }
                Err(e) => tracing::debug!("cannot ask name server {server}: {e}"),
            }
        }
        failed(asked)
    }

    /// Something came for this question. The second value says that another server is now asked under the same token.
    pub(super) fn heard(&mut self, token: u64) -> (Option<Reply>, bool) {
        let Some(pending) = self.pending.get(&token) else {
            return (None, false);
        };
        let mut bytes = vec![0; MOST_UDP];
        match pending.socket.recv(&mut bytes) {
            Ok(len) if is_answer(&bytes[..len], pending) => bytes.truncate(len),
            // Somebody else's: the right one may still come.
            Ok(_) => return (None, false),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return (None, false),
            Err(_) => return self.next(token),
        }
        // Server failure and refusal: the next server may know better.
        let unhappy = matches!(bytes[3] & 0x0f, 2 | 5);
        if unhappy && !pending.servers.is_empty() {
            return self.next(token);
        }
        let Some(pending) = self.pending.remove(&token) else {
            return (None, false);
        };
        bytes[..2].copy_from_slice(&pending.asked.question[..2]);
        let reply = Reply {
            ear: pending.asked.ear,
            client: pending.asked.client,
            bytes,
        };
        (Some(reply), false)
    }

    /// Tries the next server.
    pub(super) fn next(&mut self, token: u64) -> (Option<Reply>, bool) {
        let Some(pending) = self.pending.remove(&token) else {
            return (None, false);
        };
        let reply = self.start(token, pending.asked, pending.servers);
        (reply, self.pending.contains_key(&token))
    }

    /// Those whose time is over.
    pub(super) fn overdue(&self) -> Vec<u64> {
        let now = Instant::now();
        let late = self.pending.iter().filter(|(_, p)| p.deadline <= now);
        late.map(|(token, _)| *token).collect()
    }

    /// Forgets what a sandbox asked.
    pub(super) fn forget(&mut self, ear: u64) {
        self.pending.retain(|_, p| p.asked.ear != ear);
    }
}

fn failed(asked: Asked) -> Option<Reply> {
    let bytes = failure(&asked.question)?;
    Some(Reply {
        ear: asked.ear,
        client: asked.client,
        bytes,
    })
}

fn send(question: &[u8], server: IpAddr) -> io::Result<(UdpSocket, [u8; 2])> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(at(server))?;
    let [a, b, ..] = random().map_err(io::Error::other)?.to_ne_bytes();
    let mut bytes = question.to_vec();
    bytes[..2].copy_from_slice(&[a, b]);
    socket.send(&bytes)?;
    Ok((socket, [a, b]))
}

/// The right number, an answer, and to the question that was asked.
fn is_answer(bytes: &[u8], pending: &Pending) -> bool {
    let asked = question_of(&pending.asked.question);
    bytes.len() > HEADER
        && bytes[..2] == pending.number
        && bytes[2] & 0x80 != 0
        && question_of(bytes).is_some_and(|q| asked.is_some_and(|a| a.eq_ignore_ascii_case(q)))
}

/// The bytes of the first question: its name (never compressed), type and class.
fn question_of(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => return message.get(HEADER..at + 5),
            len if len < 64 => at += 1 + usize::from(len),
            _ => return None,
        }
    }
}
