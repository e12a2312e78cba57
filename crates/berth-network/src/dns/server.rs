//! The thread that hears the resolver's sockets of all sandboxes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use super::answer::{Answer, HEADER, answer};
use super::forward::{Asked, Forwards, Reply};
use super::stream::{Client, Streams};
use super::{MOST_UDP, Sockets, zone};
use crate::kept;
use crate::networks::Inner;
use crate::resolv_conf;
use crate::{Error, Result};

/// Datagrams read of one sandbox before the others have their turn.
const TURN: usize = 16;
/// Asked where nobody names a server: Docker's choice.
const PUBLIC: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
];

/// What the thread is told.
#[derive(Debug)]
enum News {
    Open(String, Sockets),
    Close(String),
    Stop,
}

/// The thread; it starts with the first sandbox that needs it.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    news: Arc<Mutex<Vec<News>>>,
    bell: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

impl Resolver {
    /// Answers at these sockets from now on.
    pub(crate) fn open(
        &self,
        inner: &Arc<Inner>,
        sandbox_id: &str,
        sockets: Sockets,
    ) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            let started = start(Arc::downgrade(inner));
            *running = Some(started.map_err(|e| Error::kernel("start the resolver", e))?);
        }
        tell(running.as_ref(), News::Open(sandbox_id.to_owned(), sockets));
        Ok(())
    }

    /// Closes a sandbox's sockets.
    pub(crate) fn close(&self, sandbox_id: &str) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        tell(running.as_ref(), News::Close(sandbox_id.to_owned()));
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        tell(running.as_ref(), News::Stop);
        if running.is_some_and(|r| r.thread.join().is_err()) {
            tracing::error!("the resolver panicked");
        }
    }
}

fn tell(running: Option<&Running>, news: News) {
    let Some(running) = running else {
        return;
    };
    running
        .news
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(news);
    if let Err(e) = rustix::io::write(&running.bell, &1u64.to_ne_bytes()) {
        tracing::error!("cannot wake the resolver: {e}");
    }
}

fn start(inner: Weak<Inner>) -> io::Result<Running> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let news = Arc::new(Mutex::default());
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let server = Server {
        streams: Streams::start(&inner)?,
        inner,
        poll,
        bell: Arc::clone(&bell),
        news: Arc::clone(&news),
        ears: HashMap::new(),
        forwards: Forwards::default(),
        last: BELL,
    };
    server.listen_to(&bell, BELL)?;
    let thread = std::thread::Builder::new()
        .name("dns".into())
        .spawn(move || {
            let mut server = server;
            kept::keep("dns", |again| {
                if again {
                    // Questions that wait for an answer are asked again by whoever asked.
                    server.forwards = Forwards::default();
                }
                server.run();
            });
        })?;
    Ok(Running { news, bell, thread })
}

/// Servers that a sandbox's questions go on to; empty if they go nowhere.
pub(super) fn servers(inner: &Inner, sandbox_id: &str) -> Vec<IpAddr> {
    let Some(given) = zone::servers(&inner.state(), sandbox_id) else {
        return Vec::new();
    };
    let engine = || zone::usable(&inner.options.dns);
    // Read each time: it changes with the network that a laptop is in.
    let host = || zone::usable(&resolv_conf::parse(&resolv_conf::host_text()).servers);
    [given]
        .into_iter()
        .chain(std::iter::once_with(engine))
        .chain(std::iter::once_with(host))
        .find(|servers| !servers.is_empty())
        .unwrap_or_else(|| PUBLIC.to_vec())
}

struct Ear {
    sandbox_id: String,
    sockets: Sockets,
}

struct Server {
    inner: Weak<Inner>,
    poll: OwnedFd,
    bell: Arc<OwnedFd>,
    news: Arc<Mutex<Vec<News>>>,
    /// By the number of their UDP socket; that of the TCP socket is the next one.
    ears: HashMap<u64, Ear>,
    forwards: Forwards,
    streams: Streams,
    /// Last number given to a socket; none is given twice.
    last: u64,
}

const BELL: u64 = 0;

impl Server {
    fn listen_to(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.poll, socket, data, epoll::EventFlags::IN)?;
        Ok(())
    }

    fn run(&mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let patience = self.forwards.deadline().map(until);
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.poll, spare, patience.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    tracing::error!("the resolver ends: {e}");
                    return;
                }
            }
            for event in &events {
                let number = event.data.u64();
                if number == BELL {
                    if self.hear_news() {
                        return;
                    }
                } else if self.ears.contains_key(&number) {
                    self.hear_questions(number);
                } else if self.ears.contains_key(&number.wrapping_sub(1)) {
                    self.accept(number - 1);
                } else {
                    let (reply, again) = self.forwards.heard(number);
                    self.follow_up(number, reply, again);
                }
            }
            for number in self.forwards.overdue() {
                let (reply, again) = self.forwards.next(number);
                self.follow_up(number, reply, again);
            }
        }
    }

    /// True if the thread shall end.
    fn hear_news(&mut self) -> bool {
        let mut count = [0; 8];
        // Another bell may have been heard with the one before.
        let _ = rustix::io::read(&self.bell, &mut count);
        loop {
            let one = {
                let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
                if news.is_empty() {
                    return false;
                }
                news.remove(0)
            };
            match one {
                News::Stop => return true,
                News::Close(sandbox_id) => self.close(&sandbox_id),
                News::Open(sandbox_id, sockets) => {
                    self.close(&sandbox_id);
                    let number = self.last + 1;
                    self.last += 2;
                    let listening = self
                        .listen_to(&sockets.udp, number)
                        .and_then(|()| self.listen_to(&sockets.tcp, number + 1));
                    if let Err(e) = listening {
                        tracing::error!("no resolver for sandbox {sandbox_id}: {e}");
                    }
                    let ear = Ear {
                        sandbox_id,
                        sockets,
                    };
                    self.ears.insert(number, ear);
                }
            }
        }
    }

    fn close(&mut self, sandbox_id: &str) {
        let forwards = &mut self.forwards;
        self.ears.retain(|number, ear| {
            let stays = ear.sandbox_id != sandbox_id;
            if !stays {
                forwards.forget(*number);
            }
            stays
        });
    }

    fn hear_questions(&mut self, number: u64) {
        let mut bytes = [0; MOST_UDP];
        for _ in 0..TURN {
            let Some(ear) = self.ears.get(&number) else {
                return;
            };
            // An error is that of an earlier answer nobody waited for, or says that there is nothing more.
            let Ok((len, client)) = ear.sockets.udp.recv_from(&mut bytes) else {
                return;
            };
            let question = &bytes[..len];
            let Some(inner) = self.inner.upgrade() else {
                return;
            };
            let decided = {
                let asked = (&*ear.sandbox_id, &*inner.options.host_gateway);
                answer(&inner.state(), asked, question, true)
            };
            match decided {
                Answer::Silence => {}
                Answer::Reply(reply) => send(ear, &reply, client),
                Answer::Forward if len < HEADER => {}
                Answer::Forward => {
                    let servers = servers(&inner, &ear.sandbox_id);
                    drop(inner);
                    self.forward(number, client, question, servers);
                }
            }
        }
    }

    fn forward(
        &mut self,
        ear: u64,
        client: std::net::SocketAddr,
        question: &[u8],
        servers: Vec<IpAddr>,
    ) {
        // Numbers come in pairs, so that none is taken for a TCP socket.
        let token = self.last + 1;
        self.last += 2;
        let asked = Asked {
            ear,
            client,
            question: question.to_vec(),
        };
        let reply = self.forwards.ask(token, asked, servers);
        self.follow_up(token, reply, true);
    }

    /// Tells the client, or listens for what the server says that was asked now.
    fn follow_up(&mut self, token: u64, reply: Option<Reply>, listen: bool) {
        if let Some(reply) = reply {
            if let Some(ear) = self.ears.get(&reply.ear) {
                send(ear, &reply.bytes, reply.client);
            }
        } else if listen
            && let Some(socket) = self.forwards.socket(token)
            && let Err(e) = self.listen_to(socket, token)
        {
            tracing::warn!("cannot listen to a name server: {e}");
        }
    }

    fn accept(&mut self, number: u64) {
        let Some(ear) = self.ears.get(&number) else {
            return;
        };
        if let Ok((stream, _)) = ear.sockets.tcp.accept() {
            self.streams.take(Client {
                sandbox_id: ear.sandbox_id.clone(),
                stream,
            });
        }
    }
}

fn send(ear: &Ear, bytes: &[u8], client: std::net::SocketAddr) {
    if let Err(e) = ear.sockets.udp.send_to(bytes, client) {
        tracing::debug!("an answer to {} was not sent: {e}", ear.sandbox_id);
    }
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}
