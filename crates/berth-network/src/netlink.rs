//! A netlink socket: many requests in one datagram, and what the kernel answers to each.
//!
//! Shared by rtnetlink ([`crate::route`]) and nftables ([`crate::nft`]); knows the message header and nothing above it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;

/// `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Room for the rules and elements of some thousand published ports in one atomic batch, in bytes.
const SEND_BUFFER: usize = 8 << 20;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the reason in words.
const REASON: u16 = 1;

/// A socket in the network namespace of the thread that opened it, for use from any thread.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    port: u32,
}

/// One message as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
    /// Header included.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// What follows the header.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }

    /// The verdict, if this message is one: `Ok` is an acknowledgement.
    pub(crate) fn verdict(&self) -> Option<io::Result<()>> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let code = read_i32(self.payload(), 0).unwrap_or(0);
        if code == 0 {
            return Some(Ok(()));
        }
        let error = io::Error::from_raw_os_error(code.saturating_neg());
        Some(Err(match self.reason() {
            Some(reason) => io::Error::new(error.kind(), Refused { error, reason }),
            None => error,
        }))
    }

    fn reason(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 || self.flags & NLM_F_CAPPED == 0 {
            return None;
        }
        attributes(self.payload().get(4 + HEADER..)?)
            .find(|(kind, _)| *kind == REASON)
            .map(|(_, text)| {
                String::from_utf8_lossy(text)
                    .trim_end_matches('\0')
                    .to_owned()
            })
    }
}

/// The kernel's refusal with its own explanation.
#[derive(Debug, thiserror::Error)]
#[error("{error}: {reason}")]
struct Refused {
    error: io::Error,
    reason: String,
}

/// The error number in an error of this module.
pub(crate) fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        let refused = error.get_ref()?.downcast_ref::<Refused>()?;
        refused.error.raw_os_error()
    })
}

fn read_i32(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(i32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Cuts a datagram into its messages; what is malformed ends it.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let len = word(0)? as usize;
        if len < HEADER || len > rest.len() {
            return None;
        }
        let message = Message {
            kind: half(4)?,
            flags: half(6)?,
            sequence: word(8)?,
            port: word(12)?,
            bytes: &rest[..len],
        };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `bytes`, as kind (without flag bits) and value; what is malformed ends them.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let half = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let len = half(0)? as usize;
        if len < 4 || len > rest.len() {
            return None;
        }
        let attribute = (half(2)? & 0x3fff, &rest[4..len]);
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

impl Netlink {
    /// Opens a socket of `protocol` (`NETLINK_ROUTE`, `NETLINK_NETFILTER`) in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Without CAP_NET_ADMIN the default has to do.
        let _ = sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER);
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, SEND_BUFFER);
        Ok(Self {
            socket,
            sequence: 1,
            port,
        })
    }

    /// The kernel's name for this socket; notifications carry that of their cause.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// A number for the next message.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Hears what is said to `group`.
    pub(crate) fn join(&mut self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }

    /// Sends one datagram of whole messages.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        retry(|| self.socket.send(datagram, 0)).map(drop)
    }

    /// Waits for the next datagram.
    pub(crate) fn receive(&self) -> io::Result<Vec<u8>> {
        retry(|| self.socket.recv_from_full()).map(|(datagram, _)| datagram)
    }

    /// Sends messages numbered `first..=last`, of which the last asks for an answer, and hears until that is there. Gives
    /// the number of the first that was refused. Of an `atomic` batch, a refusal of the whole is one of its first message.
    pub(crate) fn transact(
        &self,
        datagram: &[u8],
        first: u32,
        last: u32,
        atomic: bool,
    ) -> Result<(), (u32, io::Error)> {
        let on_whole = |e| (last, e);
        self.send(datagram).map_err(on_whole)?;
        let mut refused = None;
        loop {
            let answer = self.receive().map_err(on_whole)?;
            let mut done = false;
            for message in messages(&answer) {
                // An answer to an earlier call that gave up is not ours.
                let ours = (first..=last).contains(&message.sequence);
                let Some(verdict) = message.verdict().filter(|_| ours) else {
                    continue;
                };
                done |= message.sequence == last;
                done |= atomic && message.sequence == first && verdict.is_err();
                if let Err(error) = verdict {
                    refused.get_or_insert((message.sequence, error));
                }
            }
            if done {
                return refused.map_or(Ok(()), Err);
            }
        }
    }

    /// Asks for a list; `each` sees every entry.
    pub(crate) fn dump(
        &self,
        request: &[u8],
        sequence: u32,
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.send(request)?;
        loop {
            let answer = self.receive()?;
            for message in messages(&answer).filter(|m| m.sequence == sequence) {
                match message.verdict() {
                    Some(verdict) => return verdict,
                    None => each(message),
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Netlink({})", self.port)
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
