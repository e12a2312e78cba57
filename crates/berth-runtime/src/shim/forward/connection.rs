//! The socket to a receiver. It never blocks.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use crate::task::{ForwardTarget, SyslogAddress};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    /// There is no room now.
    Later,
    /// It cannot be sent.
    Refused,
    /// The receiver is not there.
    Gone,
}

/// A socket, connected or about to be.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    stream: bool,
    /// Bytes of the message at hand that have gone.
    sent: usize,
}

impl Connection {
    pub fn open(target: &ForwardTarget) -> io::Result<Self> {
        match target {
            ForwardTarget::Journal { socket, .. } => Self::unix(socket, SocketType::DGRAM),
            ForwardTarget::Syslog { address, .. } => match address {
                SyslogAddress::Unix(path) => Self::unix(path, SocketType::DGRAM)
                    .or_else(|_| Self::unix(path, SocketType::STREAM)),
                SyslogAddress::Udp(address) => Self::inet(address, SocketType::DGRAM),
                SyslogAddress::Tcp(address) => Self::inet(address, SocketType::STREAM),
            },
        }
    }

    fn unix(path: &Path, kind: SocketType) -> io::Result<Self> {
        let socket = new(AddressFamily::UNIX, kind)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::of(socket, kind))
    }

    fn inet(address: &SocketAddr, kind: SocketType) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = new(family, kind)?;
        match connect(&socket, address) {
            // What is sent meanwhile waits for the connection.
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self::of(socket, kind)),
            Err(error) => Err(error.into()),
        }
    }

    fn of(socket: OwnedFd, kind: SocketType) -> Self {
        Self {
            socket,
            stream: kind == SocketType::STREAM,
            sent: 0,
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a message, or what is left of it.
    pub fn send(&mut self, message: &[u8]) -> Sent {
        let mut refused = false;
        loop {
            match send(&self.socket, &message[self.sent..], SendFlags::NOSIGNAL) {
                Ok(n) if self.stream && self.sent + n < message.len() => self.sent += n,
                Ok(_) => {
                    self.sent = 0;
                    return Sent::Whole;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::INPROGRESS) => return Sent::Later,
                Err(Errno::MSGSIZE) => return Sent::Refused,
                // Of an earlier datagram: nobody listened then.
                Err(Errno::CONNREFUSED) if !self.stream && !refused => refused = true,
                Err(_) => return Sent::Gone,
            }
        }
    }
}

fn new(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, kind, flags, None)?)
}
