//! Ports published on IPv6 addresses, of containers that have IPv4 alone: one thread carries their bytes across.
//!
//! The kernel translates no IPv6 packet to IPv4, so here alone the engine stands between client and container (who sees
//! the bridge's address as the client's). IPv4 never comes this way. Connections end with the engine; those who ask
//! `localhost` then go on with 127.0.0.1.

mod carrier;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::kept;
use crate::port::{Protocol, PublishedPort};

/// Number of the bell among the sockets of the thread.
const BELL: u64 = 0;

/// A claimed socket of the host and where it leads.
#[derive(Debug)]
struct Door {
    owner: String,
    socket: Socket,
    to: SocketAddrV4,
}

impl Door {
    fn is_at(&self, port: &PublishedPort) -> bool {
        let (protocol, at) = match &self.socket {
            Socket::Tcp(socket) => (Protocol::Tcp, socket.local_addr()),
            Socket::Udp(socket) => (Protocol::Udp, socket.local_addr()),
        };
        protocol == port.protocol && at.is_ok_and(|at| at == port.host())
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// What the thread and its owner share.
#[derive(Debug)]
struct Hall {
    poll: OwnedFd,
    bell: OwnedFd,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    doors: HashMap<u64, Door>,
    /// Last number given to a socket; none is given twice.
    last: u64,
    stop: bool,
}

impl Hall {
    fn open() -> io::Result<Self> {
        let hall = Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            desk: Mutex::default(),
        };
        hall.listen_to(&hall.bell, BELL, epoll::EventFlags::IN)?;
        Ok(hall)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        let mut desk = self.desk();
        desk.last += 1;
        desk.last
    }

    fn listen_to(&self, socket: impl AsFd, number: u64, to: epoll::EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.poll, socket, data, to)?;
        Ok(())
    }

    fn ring(&self) {
        if let Err(e) = rustix::io::write(&self.bell, &1u64.to_ne_bytes()) {
            tracing::error!("cannot wake the thread for IPv6 ports: {e}");
        }
    }
}

/// All doors of an engine; the thread starts with the first.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    running: Option<(Arc<Hall>, JoinHandle<()>)>,
}

impl Doors {
    /// Leads what comes to `socket` on to `to`.
    pub(crate) fn open(
        &mut self,
        owner: &str,
        protocol: Protocol,
        socket: OwnedFd,
        to: SocketAddrV4,
    ) -> io::Result<()> {
        let socket = match protocol {
            Protocol::Tcp => {
                let socket = TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                Socket::Tcp(socket)
            }
            Protocol::Udp => {
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                Socket::Udp(socket)
            }
            Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
        };
        let hall = self.hall()?;
        let number = hall.number();
        let door = Door {
            owner: owner.to_owned(),
            socket,
            to,
        };
        // First where it leads, then the first client.
        let mut desk = hall.desk();
        let door = desk.doors.entry(number).insert_entry(door);
        match &door.get().socket {
            Socket::Tcp(socket) => hall.listen_to(socket, number, epoll::EventFlags::IN),
            Socket::Udp(socket) => hall.listen_to(socket, number, epoll::EventFlags::IN),
        }
    }

    fn hall(&mut self) -> io::Result<Arc<Hall>> {
        if let Some((hall, _)) = &self.running {
            return Ok(Arc::clone(hall));
        }
        let hall = Arc::new(Hall::open()?);
        let carried = Arc::clone(&hall);
        let thread = std::thread::Builder::new()
            .name("ports-ipv6".into())
            .spawn(move || {
                // Connections that are open are lost; the doors are not.
                kept::keep("ports-ipv6", |_| {
                    carrier::Carrier::new(Arc::clone(&carried)).run();
                });
            })?;
        self.running = Some((Arc::clone(&hall), thread));
        Ok(hall)
    }

    /// Closes the doors of `owner`: their ports are free when this returns.
    pub(crate) fn close(&self, owner: &str) {
        self.close_those(|door| door.owner == owner);
    }

    /// Closes one of them.
    pub(crate) fn close_one(&self, owner: &str, port: &PublishedPort) {
        self.close_those(|door| door.owner == owner && door.is_at(port));
    }

    fn close_those(&self, which: impl Fn(&Door) -> bool) {
        let Some((hall, _)) = &self.running else {
            return;
        };
        let mut desk = hall.desk();
        let before = desk.doors.len();
        desk.doors.retain(|_, door| !which(door));
        if desk.doors.len() != before {
            drop(desk);
            hall.ring();
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        if let Some((hall, thread)) = self.running.take() {
            hall.desk().stop = true;
            hall.ring();
            if thread.join().is_err() {
                tracing::error!("the thread for IPv6 ports panicked");
            }
        }
    }
}
