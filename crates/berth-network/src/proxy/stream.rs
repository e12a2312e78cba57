//! One TCP connection through a door: bytes both ways, each way ended by itself.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// Bytes on their way in one direction.
const ROOM: usize = 16 << 10;
/// Reads and writes in one turn before other connections have theirs.
const TURN: usize = 64;

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more to do until a socket says so.
    Waits,
    /// More could be done at once.
    Again,
    Over,
}

#[derive(Debug)]
struct Way {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
    /// No more comes.
    ended: bool,
    /// The other side was told so.
    told: bool,
}

impl Way {
    fn new() -> Self {
        Self {
            bytes: vec![0; ROOM].into_boxed_slice(),
            from: 0,
            to: 0,
            ended: false,
            told: false,
        }
    }

    /// Reads or writes once each; true if something moved.
    fn step(&mut self, mut source: &TcpStream, mut sink: &TcpStream) -> io::Result<bool> {
        let mut moved = false;
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        if !self.ended && self.to < ROOM {
            match ready(source.read(&mut self.bytes[self.to..]))? {
                Some(0) => (self.ended, moved) = (true, true),
                Some(n) => (self.to, moved) = (self.to + n, true),
                None => {}
            }
        }
        if self.from < self.to {
            if let Some(n) = ready(sink.write(&self.bytes[self.from..self.to]))? {
                (self.from, moved) = (self.from + n, moved || n > 0);
            }
        } else if self.ended && !self.told {
            sink.shutdown(Shutdown::Write)?;
            self.told = true;
        }
        Ok(moved)
    }
}

/// `None` if it would have had to wait.
fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
        // Not connected yet.
        Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(None),
        Err(e) => Err(e),
    }
}

/// A client and a container.
#[derive(Debug)]
pub(super) struct Connection {
    pub door: u64,
    client: TcpStream,
    server: TcpStream,
    up: Way,
    down: Way,
}

impl Connection {
    /// Begins to connect the client to the container.
    pub(super) fn begin(door: u64, client: TcpStream, to: SocketAddrV4) -> io::Result<Self> {
        client.set_nonblocking(true)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let server = TcpStream::from(socket);
        // Latency is the ends' affair.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        Ok(Self {
            door,
            client,
            server,
            up: Way::new(),
            down: Way::new(),
        })
    }

    pub(super) fn sockets(&self) -> [impl AsFd + '_; 2] {
        [&self.client, &self.server]
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self) -> Turn {
        for _ in 0..TURN {
            let up = self.up.step(&self.client, &self.server);
            let down = self.down.step(&self.server, &self.client);
            match (up, down) {
                (Ok(up), Ok(down)) => {
                    if self.up.told && self.down.told {
                        return Turn::Over;
                    }
                    if !up && !down {
                        return Turn::Waits;
                    }
                }
                _ => return Turn::Over,
            }
        }
        Turn::Again
    }
}
