//! PostgreSQL's protocol 3.0: messages over a socket, with or without TLS.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::address::Host;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server's own limit for a statement is a little shorter.
const TIMEOUT: Duration = Duration::from_secs(70);
/// The longest message that is read, in bytes.
const MESSAGE_MAX: usize = 64 << 20;
/// Asks for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A connection to the server.
pub(super) struct Wire {
    stream: BufReader<Stream>,
    out: Vec<u8>,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A message from the server: its kind, and what it holds.
pub(super) struct Message {
    pub(super) kind: u8,
    body: Vec<u8>,
    at: usize,
}

impl Wire {
    /// Connects; with `tls`, encrypted to whom the certificate says it is.
    pub(super) fn connect(host: &Host, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = match host {
            Host::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Stream::Unix(stream)
            }
            Host::Tcp(name, port) => {
                let stream = connect_tcp(name, *port)?;
                match tls {
                    Some(config) => Stream::Tls(Box::new(encrypt(stream, name, config)?)),
                    None => Stream::Tcp(stream),
                }
            }
        };
        Ok(Self {
            stream: BufReader::with_capacity(8 << 10, stream),
            out: Vec::new(),
        })
    }

    /// Puts a message together that [`flush`](Self::flush) sends. The first one of a connection has no
    /// kind (0).
    pub(super) fn put(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
        if kind != 0 {
            self.out.push(kind);
        }
        let start = self.out.len();
        self.out.extend([0; 4]);
        body(&mut self.out);
        let length = u32::try_from(self.out.len() - start).unwrap_or(u32::MAX);
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Sends what was put together.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let stream = self.stream.get_mut();
        let sent = stream.write_all(&self.out).and_then(|()| stream.flush());
        self.out.clear();
        // A large manifest is no reason to keep its room.
        self.out.shrink_to(8 << 10);
        sent
    }

    /// The next message.
    pub(super) fn next(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=MESSAGE_MAX).contains(&length) {
            return Err(bad("a message of an impossible length"));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(Message { kind, body, at: 0 })
    }

    /// Whether the server has something to say without being asked: mostly, that it ends.
    pub(super) fn is_disturbed(&self) -> bool {
        if !self.stream.buffer().is_empty() {
            return true;
        }
        let fd = self.stream.get_ref().fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        // A connection that cannot be asked is none.
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }
}

fn connect_tcp(name: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"));
    for address in (name, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn encrypt(
    mut stream: TcpStream,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    stream.write_all(&SSL_REQUEST)?;
    let mut answer = [0; 1];
    stream.read_exact(&mut answer)?;
    if answer != *b"S" {
        return Err(bad("the server does not speak TLS"));
    }
    let name = ServerName::try_from(name.to_owned())
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.flush()?;
    Ok(stream)
}

impl Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.flush(),
            Stream::Tcp(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

impl Message {
    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: usize) -> io::Result<&[u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.body.len());
        let Some(end) = end else {
            return Err(bad("a message that ends early"));
        };
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.body[start..end])
    }

    pub(super) fn i16(&mut self) -> io::Result<i16> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn i32(&mut self) -> io::Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Text up to a zero.
    pub(super) fn text(&mut self) -> io::Result<String> {
        let rest = &self.body[self.at..];
        let Some(length) = rest.iter().position(|byte| *byte == 0) else {
            return Err(bad("a text without an end"));
        };
        let text = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(text)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &[u8] {
        let start = std::mem::replace(&mut self.at, self.body.len());
        &self.body[start..]
    }

    /// The values of a row.
    pub(super) fn values(&mut self) -> io::Result<Vec<Option<Vec<u8>>>> {
        let count = self.i16()?;
        (0..count)
            .map(|_| match usize::try_from(self.i32()?) {
                Ok(length) => self.take(length).map(|bytes| Some(bytes.to_vec())),
                // -1 is NULL.
                Err(_) => Ok(None),
            })
            .collect()
    }
}

/// What a server of this protocol does not say.
pub(super) fn bad(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("PostgreSQL sent {what}"),
    )
}
