//! The shim's life while its container runs.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_sys::signalfd::SignalFd;
use berth_sys::socket;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::exec::{Exec, Execs};
use super::foreign;
use super::poll::Interests;
use super::protocol::{self, Notice, Reply, Request, Status, length};
use super::session::{Part, Session};
use super::start::{Container, poststart, poststop, remove_socket};
use crate::error::{Error, ErrorKind};
use crate::launcher::World;
use crate::task::{ExitStatus, exit};

/// Connections that have not yet said what they want.
const UNHEARD_MAX: usize = 256;
/// How long they may take.
const UNHEARD_TIME: Duration = Duration::from_secs(10);
/// Bytes that wait for somebody who asked for events and does not read them.
const NOTICES_MAX: usize = 1 << 20;
/// Ended execs that are remembered for who asks later, beside those whose end nobody heard.
const EXEC_EXITS_MAX: usize = 256;

/// A container that has run so long will run on: what its start took is let go.
const SETTLED: Duration = Duration::from_secs(2);

/// A connection that is still asking.
#[derive(Debug)]
struct Unheard {
    socket: OwnedFd,
    buffer: Vec<u8>,
    deadline: Instant,
}

/// Somebody who is told what happens.
#[derive(Debug)]
struct Subscriber {
    socket: OwnedFd,
    queue: VecDeque<u8>,
    gone: bool,
}

impl Subscriber {
    fn new(socket: OwnedFd) -> Self {
        let gone = rustix::io::ioctl_fionbio(&socket, true).is_err();
        Self {
            socket,
            queue: VecDeque::new(),
            gone,
        }
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
        self.gone |= self.queue.len() > NOTICES_MAX;
        self.flush();
    }

    fn flush(&mut self) {
        while !self.queue.is_empty() && !self.gone {
            match socket::send(&self.socket, self.queue.as_slices().0, &[]) {
                Ok(n) => drop(self.queue.drain(..n)),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
        }
    }
}

/// What a ready descriptor stands for.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signal,
    Listener,
    Unheard(usize),
    Subscriber(usize),
    Main(Part),
    Exec(usize, Part),
    ExecStart(usize),
}

/// The shim.
pub(super) struct Shim<'w> {
    world: &'w World,
    container: Container,
    main: Session,
    terminal: bool,
    signals: SignalFd,
    unheard: Vec<Unheard>,
    subscribers: Vec<Subscriber>,
    execs: Execs,
    /// The gate has been opened.
    running: bool,
    /// When to let go of the memory that the start took.
    rest: Option<Instant>,
}

impl<'w> Shim<'w> {
    /// Takes over; who asked for the start is told what happens.
    pub fn new(
        world: &'w World,
        container: Container,
        main: Session,
        signals: SignalFd,
        first: OwnedFd,
    ) -> Self {
        let process = container.task.spec.process.as_ref();
        Self {
            world,
            terminal: process.is_some_and(|p| p.terminal),
            running: !container.task.wait_for_start,
            container,
            main,
            signals,
            unheard: Vec::new(),
            subscribers: vec![Subscriber::new(first)],
            execs: Execs::default(),
            rest: Some(Instant::now() + SETTLED),
        }
    }

    /// Serves until the container has ended and everybody knows.
    pub fn run(mut self) {
        // It may have ended while nobody looked.
        self.reap();
        loop {
            self.sweep();
            if self.over() {
                return;
            }
            self.round();
        }
    }

    /// Forgets what has ended. Nothing may end between this and the look at whether all is over, for
    /// nobody would wake us again.
    fn sweep(&mut self) {
        let now = Instant::now();
        if self.rest.is_some_and(|at| at <= now) {
            self.rest = None;
            berth_sys::memory::rest();
        }
        self.main.tick();
        self.execs.tick();
        self.execs.sweep();
        self.unheard.retain(|u| u.deadline > now);
        self.subscribers.retain(|s| !s.gone);
    }

    fn over(&mut self) -> bool {
        let told = self.subscribers.iter().all(|s| s.queue.is_empty());
        let ended = self.container.status.exit.is_some() && self.main.over();
        ended && told && self.execs.is_empty()
    }

    fn round(&mut self) {
        let ready = self.interests().wait();
        for (token, flags) in ready {
            match token {
                Token::Main(part) => self.main.ready(part, flags),
                Token::Exec(index, part) => self.execs.ready(index, part, flags),
                Token::ExecStart(index) => self.execs.progress(index),
                Token::Subscriber(index) => self.subscriber(index, flags),
                Token::Unheard(index) => self.hear(index),
                Token::Listener => self.accept(),
                Token::Signal => {
                    while self.signals.next().is_some() {}
                    self.reap();
                }
            }
        }
    }

    fn interests(&self) -> Interests<'_, Token> {
        let mut into = Interests::new();
        into.before(self.rest);
        into.add(self.signals.as_fd(), PollFlags::IN, Token::Signal);
        if self.unheard.len() < UNHEARD_MAX {
            let listener = self.container.listener.as_fd();
            into.add(listener, PollFlags::IN, Token::Listener);
        }
        for (index, unheard) in self.unheard.iter().enumerate() {
            into.before(Some(unheard.deadline));
            into.add(unheard.socket.as_fd(), PollFlags::IN, Token::Unheard(index));
        }
        for (index, subscriber) in self.subscribers.iter().enumerate() {
            let flags = if subscriber.queue.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            into.add(subscriber.socket.as_fd(), flags, Token::Subscriber(index));
        }
        self.main.interests(&mut into, Token::Main);
        for (index, exec) in self.execs.iter() {
            match exec.channel() {
                // Its output waits until somebody can have it.
                Some(channel) => into.add(channel, PollFlags::IN, Token::ExecStart(index)),
                None => exec
                    .session
                    .interests(&mut into, |part| Token::Exec(index, part)),
            }
        }
        into
    }

    fn subscriber(&mut self, index: usize, flags: PollFlags) {
        if let Some(subscriber) = self.subscribers.get_mut(index) {
            subscriber.gone |= flags.intersects(PollFlags::HUP | PollFlags::ERR);
            subscriber.flush();
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.unheard.len() < UNHEARD_MAX {
            let Ok(socket) = accept_with(&self.container.listener, flags) else {
                return;
            };
            let own = rustix::process::geteuid();
            let allowed =
                socket::peer(&socket).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
            if allowed {
                self.unheard.push(Unheard {
                    socket,
                    buffer: Vec::new(),
                    deadline: Instant::now() + UNHEARD_TIME,
                });
            }
        }
    }

    /// Reads on what a connection wants, and does it once it is all there.
    fn hear(&mut self, index: usize) {
        let Some(unheard) = self.unheard.get_mut(index) else {
            return;
        };
        match request(unheard) {
            Ok(None) => {}
            Ok(Some(request)) => {
                let socket = unheard.socket.try_clone();
                // Taken out by the sweep; indices of this round stay right.
                unheard.buffer.clear();
                unheard.deadline = Instant::now() - UNHEARD_TIME;
                if let Ok(socket) = socket {
                    self.answer(request, socket);
                }
            }
            Err(_) => {
                unheard.buffer.clear();
                unheard.deadline = Instant::now() - UNHEARD_TIME;
            }
        }
    }

    fn answer(&mut self, request: Request, socket: OwnedFd) {
        // An answer is short; a connection that does not take it is given up.
        let reply = |reply: &Reply| protocol::send(&socket, reply, &[]);
        match request {
            Request::Spawn(_) | Request::UserNamespace(_) => {
                let _ = reply(&Reply::Failed(Error::invalid("this shim has a container")));
            }
            Request::Events => {
                let status = Status {
                    execs: self.execs.running(),
                    ..self.container.status.clone()
                };
                if reply(&Reply::Status(status)).is_ok() {
                    self.subscribers.push(Subscriber::new(socket));
                }
            }
            Request::Start => {
                let _ = reply(&match self.start() {
                    Ok(()) => Reply::Done,
                    Err(error) => Reply::Failed(error),
                });
            }
            Request::Attach(options) => {
                if reply(&Reply::Done).is_ok() {
                    self.main.attach(socket, options, self.terminal);
                }
            }
            Request::Resize {
                exec,
                width,
                height,
            } => {
                let done = match &exec {
                    None => self.main.resize(width, height),
                    Some(id) => self.execs.resize(id, width, height),
                };
                let _ = reply(&if done {
                    Reply::Done
                } else {
                    Reply::Failed(Error::new(ErrorKind::Invalid, "it has no terminal"))
                });
            }
            Request::Exec(spec) => {
                if self.container.status.exit.is_some() || !self.running {
                    let error = Error::new(ErrorKind::Gone, "container is not running");
                    let _ = reply(&Reply::Failed(error));
                    return;
                }
                match Exec::start(self.world, &self.container, *spec, &self.execs) {
                    Ok(exec) => self.execs.add(exec, socket),
                    Err(error) => {
                        let _ = reply(&Reply::Failed(error));
                    }
                }
            }
        }
    }

    fn start(&mut self) -> crate::error::Result<()> {
        if self.running {
            let text = "cannot start a container that has been started";
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        self.container.started.open_gate()?;
        self.running = true;
        let container = &mut self.container;
        poststart(
            &container.task,
            container.status.pid,
            &mut container.status.warnings,
        );
        Ok(())
    }

    /// Waits for everything that has ended.
    fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.reaped(pid, status),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn reaped(&mut self, pid: Pid, status: WaitStatus) {
        let oom = self.container.cgroup.oom_kills() > 0;
        let status = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::of(false, code, oom),
            (None, Some(signal)) => ExitStatus::of(true, signal, oom),
            (None, None) => return,
        };
        if pid == self.container.started.pid {
            self.ended(status);
        } else if let Some(id) = self.execs.ended(pid) {
            let exits = &mut self.container.status.exec_exits;
            // Without an engine there are no new execs: what piles up has its bound there.
            if !self.subscribers.is_empty() && exits.len() >= EXEC_EXITS_MAX {
                exits.drain(..=exits.len() - EXEC_EXITS_MAX);
            }
            exits.push((id.clone(), status));
            self.tell(&Notice::ExecExit { id, status });
        }
    }

    /// The container's process has ended: saves what it wrote and how it ended, tells everybody, and
    /// takes down what is left.
    fn ended(&mut self, status: ExitStatus) {
        if self.container.pids.is_none() {
            // Others of a shared PID namespace go on by themselves; ours do not outlive it.
            let _ = self.container.cgroup.kill_all();
        }
        self.main.end();
        if let Some(foreign) = foreign::of(&self.container.task) {
            // Whoever hears of the end may remove the directory that it keeps its state in.
            foreign.delete();
        }
        self.container.status.exit = Some(status);
        if self.subscribers.is_empty() {
            // Nobody heard how they ended, and we shall not be there to be asked. Without the file they
            // count as killed.
            let _ = exit::write_execs(&self.container.dir, &self.container.status.exec_exits);
        }
        // Without the file, an engine that is away now will take it for killed.
        let _ = status.write(&self.container.dir);
        // From here on, who asks finds the file and no socket.
        remove_socket(&self.container.dir);
        self.tell(&Notice::Exit(status));
        // Clients that have everything see the end now: what follows may take the disk's time.
        let _ = self.main.over();
        self.container.mounts = None;
        self.container.pids = None;
        // The engine looks for leftovers when it starts.
        let _ = self.container.cgroup.remove();
        poststop(&self.container.task);
        // Clients may still be reading; that is nothing a new start has to wait for.
        self.container.lock = None;
        // Lost are a power cut's moments; the engine keeps its own record of the same.
        let _ = exit::sync(&self.container.dir);
    }

    fn tell(&mut self, notice: &Notice) {
        let Ok(bytes) = protocol::frame(notice) else {
            return;
        };
        for subscriber in &mut self.subscribers {
            subscriber.tell(&bytes);
        }
    }
}

/// Reads a request as far as it has come.
#[inline(never)] // Its buffer is not for the loop's frame.
fn request(unheard: &mut Unheard) -> std::io::Result<Option<Request>> {
    let mut chunk = [0; 16 << 10];
    loop {
        match rustix::io::read(&unheard.socket, &mut chunk) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => unheard.buffer.extend_from_slice(&chunk[..n]),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let Some(head) = unheard.buffer.first_chunk::<4>() else {
            continue;
        };
        let end = 4 + length(*head)?;
        if unheard.buffer.len() >= end {
            // Nothing may follow before the answer.
            return Ok(Some(serde_json::from_slice(&unheard.buffer[4..end])?));
        }
    }
}
