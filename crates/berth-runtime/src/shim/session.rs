//! The streams of one process: where its output goes, and where its input comes from.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::client::Client;
use super::log::{Log, Stream};
use super::poll::Interests;
use crate::error::{Context, Result};
use crate::init::Stdio;
use crate::task::AttachOptions;

/// Bytes read at once.
const CHUNK: usize = 32 << 10;
/// Bytes of input that wait for the process.
const INPUT_MAX: usize = 64 << 10;
/// Bytes read of a process that has ended: more than its pipes can hold.
const LAST_MAX: usize = 8 << 20;

/// Which descriptor of a session is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Output(Stream),
    Input,
    Client(usize),
    /// Whoever the log is sent to.
    Log,
}

/// The streams.
#[derive(Debug)]
pub(super) struct Session {
    /// The terminal, once there is one: both output and input.
    terminal: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
    /// What the process has not taken yet.
    input_queue: VecDeque<u8>,
    /// The first client's end of input is the process's.
    stdin_once: bool,
    /// Input ends when what waits has been taken.
    input_over: bool,
    clients: Vec<Client>,
    /// Every client can take more output.
    room: bool,
    log: Option<Log>,
}

/// What a process is to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub terminal: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Session {
    /// Makes pipes, or leaves the terminal to be made; answers what the process gets.
    pub fn new(wanted: Wanted, log: Option<Log>) -> Result<(Self, Stdio)> {
        let mut session = Self {
            terminal: None,
            outputs: [None, None],
            input: None,
            input_queue: VecDeque::new(),
            stdin_once: wanted.stdin_once,
            input_over: false,
            clients: Vec::new(),
            room: true,
            log,
        };
        if wanted.terminal {
            return Ok((session, Stdio::Terminal));
        }
        let (stdin, input) = ends(wanted.stdin, true)?;
        let (output, stdout) = ends(wanted.stdout, false)?;
        let (errors, stderr) = ends(wanted.stderr, false)?;
        session.input = input;
        session.outputs = [output, errors];
        let process = [stdin, stdout, stderr].map(|end| match end {
            Some(end) => Ok(end),
            None => null(),
        });
        let [stdin, stdout, stderr] = process;
        Ok((session, Stdio::Files(Some([stdin?, stdout?, stderr?]))))
    }

    /// Takes the terminal that was made.
    pub fn set_terminal(&mut self, master: OwnedFd) -> Result<()> {
        let what = || "terminal".to_owned();
        rustix::io::ioctl_fionbio(&master, true).context(what)?;
        self.outputs[0] = Some(master.try_clone().context(what)?);
        self.input = Some(master.try_clone().context(what)?);
        self.terminal = Some(master);
        Ok(())
    }

    /// Gives the terminal a size; false where there is none.
    pub fn resize(&self, width: u16, height: u16) -> bool {
        let Some(terminal) = &self.terminal else {
            return false;
        };
        let size = rustix::termios::Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size).is_ok()
    }

    /// Adds a client; `raw` where the process has a terminal.
    pub fn attach(&mut self, socket: OwnedFd, options: AttachOptions, raw: bool) {
        self.clients.push(Client::new(socket, options, raw));
    }

    /// Gives up clients that have held the others up for too long. To be called before
    /// [`interests`](Self::interests).
    pub fn tick(&mut self) {
        let (now, ended) = (Instant::now(), self.ended());
        let full = self
            .clients
            .iter_mut()
            .filter_map(|client| (!client.has_room(now, ended)).then_some(()))
            .count();
        let held = self.log.as_ref().is_some_and(Log::full);
        self.room = full == 0 && !held;
        // Indices change, so this is done while nothing refers to them.
        self.clients.retain(|client| !client.gone);
        if let Some(log) = &mut self.log {
            log.forward();
        }
    }

    /// Adds what is to be waited for.
    pub fn interests<'s, T: Copy>(
        &'s self,
        into: &mut Interests<'s, T>,
        token: impl Fn(Part) -> T,
    ) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let output = self.outputs[stream.index()].as_ref();
            if let Some(output) = output.filter(|_| self.room) {
                into.add(output.as_fd(), PollFlags::IN, token(Part::Output(stream)));
            }
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.input_queue.is_empty()) {
            into.add(input.as_fd(), PollFlags::OUT, token(Part::Input));
        }
        if let Some(log) = &self.log {
            let (receiver, deadline) = log.interest();
            into.before(deadline);
            if let Some((receiver, flags)) = receiver {
                into.add(receiver, flags, token(Part::Log));
            }
        }
        let input_room = self.input_queue.len() < INPUT_MAX;
        for (index, client) in self.clients.iter().enumerate() {
            into.before(client.deadline(self.ended()));
            if let Some(flags) = client.interest(input_room) {
                into.add(client.as_fd(), flags, token(Part::Client(index)));
            }
        }
    }

    /// Does what a descriptor is ready for.
    pub fn ready(&mut self, part: Part, flags: PollFlags) {
        match part {
            Part::Output(stream) => {
                self.read(stream);
            }
            Part::Input => self.feed(),
            // Done in every round, since a receiver that is away has to be tried again.
            Part::Log => {}
            Part::Client(index) => self.client_ready(index, flags),
        }
    }

    // Not a part of the loop: its buffer would make the loop's frame large, and the memory below it unfit to be let go.
    #[inline(never)]
    fn client_ready(&mut self, index: usize, flags: PollFlags) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        let ended = PollFlags::HUP | PollFlags::ERR;
        if !client.input_over && flags.intersects(PollFlags::IN | ended) {
            let mut buffer = [0; 16 << 10];
            let bytes = client.read(&mut buffer);
            // Input for a process that takes none is dropped.
            if self.input.is_some() && !self.input_over {
                self.input_queue.extend(bytes);
            }
            // A terminal has no end of input; who typed the detach keys comes back to it.
            if client.input_over && self.stdin_once && self.terminal.is_none() {
                self.input_over = true;
            }
            self.feed();
        } else if flags.intersects(ended) {
            client.gone = true;
        }
    }

    /// Gives waiting input to the process.
    fn feed(&mut self) {
        while let Some(input) = self.input.as_ref().filter(|_| !self.input_queue.is_empty()) {
            match rustix::io::write(input, self.input_queue.as_slices().0) {
                Ok(n) => drop(self.input_queue.drain(..n)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // The process has closed its end.
                Err(_) => {
                    self.input = None;
                    self.input_queue.clear();
                }
            }
        }
        if self.input_over && self.terminal.is_none() {
            self.input = None;
        }
    }

    /// Reads output once and hands it on; answers how much, nothing where there is none now.
    #[inline(never)] // as above
    fn read(&mut self, stream: Stream) -> usize {
        let Some(output) = &self.outputs[stream.index()] else {
            return 0;
        };
        let mut buffer = [0; CHUNK];
        match rustix::io::read(output, &mut buffer) {
            Ok(n) if n > 0 => {
                let bytes = &buffer[..n];
                if let Some(log) = &mut self.log {
                    log.write(stream, bytes);
                }
                for client in &mut self.clients {
                    client.output(stream, bytes);
                }
                n
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // Its end; of a terminal, EIO.
            Ok(_) | Err(_) => {
                self.close(stream);
                0
            }
        }
    }

    fn close(&mut self, stream: Stream) {
        self.outputs[stream.index()] = None;
        if let Some(log) = &mut self.log {
            log.end(stream);
        }
    }

    /// The process has ended: takes what it has written, and closes its streams, whoever may hold
    /// their other ends.
    pub fn end(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut total = 0;
            while total < LAST_MAX {
                match self.read(stream) {
                    0 => break,
                    n => total += n,
                }
            }
            self.close(stream);
        }
        if let Some(log) = &mut self.log {
            log.end_forward();
        }
        self.input = None;
        self.input_queue.clear();
        self.terminal = None;
    }

    fn ended(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    /// Whether every output has ended and every client has everything; then they are told.
    pub fn over(&mut self) -> bool {
        let over = self.ended() && self.clients.iter().all(Client::drained);
        if over {
            for client in self.clients.drain(..) {
                client.finish();
            }
        }
        over && self.log.as_ref().is_none_or(Log::over)
    }
}

/// A pipe's ends for the process and for us, if there is to be one: first what is read from.
fn ends(wanted: bool, input: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if !wanted {
        return Ok((None, None));
    }
    let what = || "pipe".to_owned();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    rustix::io::ioctl_fionbio(if input { &write } else { &read }, true).context(what)?;
    Ok((Some(read), Some(write)))
}

fn null() -> Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    openat(CWD, "/dev/null", flags, Mode::empty()).context(|| "/dev/null".to_owned())
}
