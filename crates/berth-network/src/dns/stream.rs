//! Questions over TCP: a client who was told that an answer is too long for UDP. Few threads, and a deadline on every step.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::answer::{Answer, HEADER, answer, failure};
use super::forward::MOST_SERVERS;
use super::{at, server};
use crate::kept;
use crate::networks::Inner;

/// Threads, and connections that wait for one; more are closed.
const THREADS: usize = 4;
const WAITING: usize = 32;
/// How long a client or server has for each step.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most questions of one connection.
const MOST_QUESTIONS: usize = 16;

/// A connection from a sandbox.
pub(super) struct Client {
    pub sandbox_id: String,
    pub stream: TcpStream,
}

/// Hands connections to the threads, which end when this is dropped.
#[derive(Debug)]
pub(super) struct Streams(SyncSender<Client>);

impl Streams {
    pub(super) fn start(inner: &Weak<Inner>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..THREADS {
            let (inner, receiver) = (Weak::clone(inner), Arc::clone(&receiver));
            std::thread::Builder::new()
                .name("dns-tcp".into())
                .stack_size(256 << 10)
                .spawn(move || work(&inner, &receiver))?;
        }
        Ok(Self(sender))
    }

    pub(super) fn take(&self, client: Client) {
        if let Err(TrySendError::Full(client) | TrySendError::Disconnected(client)) =
            self.0.try_send(client)
        {
            tracing::debug!(
                "too many DNS connections; one of {} closed",
                client.sandbox_id
            );
        }
    }
}

fn work(inner: &Weak<Inner>, receiver: &Mutex<Receiver<Client>>) {
    loop {
        let next = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(client) = next else {
            return;
        };
        let mut client = Some(client);
        kept::keep("dns-tcp", |_| {
            if let Some(Err(e)) = client.take().map(|client| serve(inner, client)) {
                tracing::debug!("a DNS connection ended: {e}");
            }
        });
    }
}

fn serve(inner: &Weak<Inner>, client: Client) -> io::Result<()> {
    let Client {
        sandbox_id,
        mut stream,
    } = client;
    stream.set_nonblocking(false)?;
    deadlines(&stream)?;
    for _ in 0..MOST_QUESTIONS {
        let Some(question) = read(&mut stream)? else {
            return Ok(());
        };
        let Some(inner) = inner.upgrade() else {
            return Ok(());
        };
        let asked = (&*sandbox_id, &*inner.options.host_gateway);
        let decided = answer(&inner.state(), asked, &question, false);
        let reply = match decided {
            Answer::Reply(bytes) => Some(bytes),
            Answer::Silence => None,
            Answer::Forward => {
                let servers = server::servers(&inner, &sandbox_id);
                drop(inner);
                forward(&question, servers).or_else(|| failure(&question))
            }
        };
        match reply {
            Some(bytes) => write(&mut stream, &bytes)?,
            None => return Ok(()),
        }
    }
    Ok(())
}

fn deadlines(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn forward(question: &[u8], servers: Vec<std::net::IpAddr>) -> Option<Vec<u8>> {
    servers.into_iter().take(MOST_SERVERS).find_map(|server| {
        let ask = || -> io::Result<Option<Vec<u8>>> {
            let mut stream = TcpStream::connect_timeout(&at(server), PATIENCE)?;
            deadlines(&stream)?;
            write(&mut stream, question)?;
            read(&mut stream)
        };
        match ask() {
            Ok(Some(bytes)) if bytes.get(..2) == question.get(..2) => Some(bytes),
            Ok(_) => None,
            Err(e) => {
                tracing::debug!("cannot ask name server {server} over TCP: {e}");
                None
            }
        }
    })
}

/// One message with its length before it (RFC 1035, 4.2.2); `None` at the end, and for what is no message.
fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 2];
    match stream.read_exact(&mut len) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(Some(message).filter(|m| m.len() >= HEADER))
}

fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes)
}
