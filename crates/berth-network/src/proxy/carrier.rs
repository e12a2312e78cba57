//! The thread that carries bytes through all doors.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::stream::{Connection, Turn};
use super::{BELL, Hall, Socket};

/// Most connections and UDP clients at once; more are turned away.
const MOST: usize = 1024;
/// After this time without a datagram a UDP client is forgotten.
const SILENCE: Duration = Duration::from_secs(90);
/// Datagrams or connections taken of one door before others have their turn.
const TURN: usize = 32;
/// Largest UDP payload in bytes.
const DATAGRAM: usize = 65_536;

/// A client over UDP, with a socket of its own towards the container.
struct Client {
    door: u64,
    address: SocketAddr,
    socket: UdpSocket,
    heard: Instant,
}

pub(super) struct Carrier {
    hall: Arc<Hall>,
    connections: HashMap<u64, Connection>,
    /// Number of a connection by those of its two sockets.
    sockets: HashMap<u64, u64>,
    clients: HashMap<u64, Client>,
    known: HashMap<(u64, SocketAddr), u64>,
    /// Connections that could do more at once.
    again: Vec<u64>,
}

/// What came to a door.
enum Came {
    Connection(std::net::TcpStream, SocketAddrV4),
    Datagram(usize, SocketAddr, SocketAddrV4),
}

impl Carrier {
    pub(super) fn new(hall: Arc<Hall>) -> Self {
        Self {
            hall,
            connections: HashMap::new(),
            sockets: HashMap::new(),
            clients: HashMap::new(),
            known: HashMap::new(),
            again: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        let mut bytes = vec![0; DATAGRAM];
        loop {
            events.clear();
            let patience = self.patience();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.hall.poll, spare, patience.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    tracing::error!("ports on IPv6 addresses no longer lead anywhere: {e}");
                    return;
                }
            }
            for number in std::mem::take(&mut self.again) {
                self.turn(number);
            }
            for event in &events {
                let number = event.data.u64();
                if number == BELL {
                    if self.look_up() {
                        return;
                    }
                } else if let Some(connection) = self.sockets.get(&number) {
                    self.turn(*connection);
                } else if self.clients.contains_key(&number) {
                    self.answer(number, &mut bytes);
                } else {
                    self.at_door(number, &mut bytes);
                }
            }
            self.forget_silent();
        }
    }

    fn patience(&self) -> Option<Timespec> {
        let seconds = |tv_sec| Some(Timespec { tv_sec, tv_nsec: 0 });
        if !self.again.is_empty() {
            return seconds(0);
        }
        if self.clients.is_empty() {
            return None;
        }
        seconds(SILENCE.as_secs() as i64)
    }

    /// Doors were closed: what went through them ends. True if the thread shall end.
    fn look_up(&mut self) -> bool {
        let mut count = [0; 8];
        // Another bell may have been heard with the one before.
        let _ = rustix::io::read(&self.hall.bell, &mut count);
        let desk = self.hall.desk();
        if desk.stop {
            return true;
        }
        let open = |door: &u64| desk.doors.contains_key(door);
        self.connections.retain(|_, c| open(&c.door));
        let connections = &self.connections;
        self.sockets
            .retain(|_, number| connections.contains_key(number));
        self.clients.retain(|_, c| open(&c.door));
        self.known.retain(|(door, _), _| open(door));
        false
    }

    fn turn(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        match connection.turn() {
            Turn::Waits => {}
            Turn::Again => self.again.push(number),
            Turn::Over => {
                self.connections.remove(&number);
                self.sockets.remove(&number);
                self.sockets.remove(&(number + 1));
            }
        }
    }

    fn at_door(&mut self, door: u64, bytes: &mut [u8]) {
        for _ in 0..TURN {
            let came = match self.hall.desk().doors.get(&door) {
                Some(open) => match &open.socket {
                    Socket::Tcp(socket) => socket
                        .accept()
                        .map(|(stream, _)| Came::Connection(stream, open.to)),
                    Socket::Udp(socket) => socket
                        .recv_from(bytes)
                        .map(|(len, client)| Came::Datagram(len, client, open.to)),
                },
                None => return,
            };
            match came {
                Ok(Came::Connection(stream, to)) => self.connect(door, stream, to),
                Ok(Came::Datagram(len, client, to)) => {
                    self.carry((door, client), &bytes[..len], to);
                }
                Err(_) => return,
            }
        }
    }

    fn connect(&mut self, door: u64, client: std::net::TcpStream, to: SocketAddrV4) {
        if self.connections.len() >= MOST {
            tracing::debug!("too many connections through IPv6 ports: one to {to} is refused");
            return;
        }
        let begun = Connection::begin(door, client, to).and_then(|connection| {
            let mut desk = self.hall.desk();
            let number = desk.last + 1;
            desk.last += 2;
            drop(desk);
            let flags = epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET;
            for (socket, number) in connection.sockets().into_iter().zip(number..) {
                self.hall.listen_to(socket, number, flags)?;
            }
            Ok((number, connection))
        });
        match begun {
            Ok((number, connection)) => {
                self.sockets.insert(number, number);
                self.sockets.insert(number + 1, number);
                self.connections.insert(number, connection);
                self.turn(number);
            }
            Err(e) => tracing::debug!("cannot connect an IPv6 client to {to}: {e}"),
        }
    }

    /// A client's datagram goes on to the container.
    fn carry(&mut self, from: (u64, SocketAddr), bytes: &[u8], to: SocketAddrV4) {
        let number = match self.known.get(&from) {
            Some(number) => *number,
            None => match self.welcome(from, to) {
                Ok(number) => number,
                Err(e) => {
                    tracing::debug!("a datagram for {to} is dropped: {e}");
                    return;
                }
            },
        };
        if let Some(client) = self.clients.get_mut(&number) {
            client.heard = Instant::now();
            // What cannot be sent is lost, as datagrams may be.
            let _ = client.socket.send(bytes);
        }
    }

    fn welcome(&mut self, (door, address): (u64, SocketAddr), to: SocketAddrV4) -> io::Result<u64> {
        if self.clients.len() >= MOST {
            return Err(io::Error::other("too many clients"));
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        let number = self.hall.number();
        self.hall
            .listen_to(&socket, number, epoll::EventFlags::IN)?;
        self.known.insert((door, address), number);
        let client = Client {
            door,
            address,
            socket,
            heard: Instant::now(),
        };
        self.clients.insert(number, client);
        Ok(number)
    }

    /// The container's datagrams go back to the client.
    fn answer(&mut self, number: u64, bytes: &mut [u8]) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        for _ in 0..TURN {
            let Ok(len) = client.socket.recv(bytes) else {
                return;
            };
            client.heard = Instant::now();
            if let Some(door) = self.hall.desk().doors.get(&client.door)
                && let Socket::Udp(socket) = &door.socket
            {
                let _ = socket.send_to(&bytes[..len], client.address);
            }
        }
    }

    fn forget_silent(&mut self) {
        self.clients.retain(|_, c| c.heard.elapsed() < SILENCE);
        let clients = &self.clients;
        self.known.retain(|_, number| clients.contains_key(number));
    }
}
