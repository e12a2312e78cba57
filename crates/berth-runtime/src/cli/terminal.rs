//! A container's terminal in ours, for who waits for its process in its place.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::error::{Context, Error, Result};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Our terminal; as it was again when this is dropped.
#[derive(Debug)]
pub(super) struct Host {
    terminal: OwnedFd,
    was: Termios,
}

impl Host {
    /// The one that a standard stream is, or the one that controls us.
    pub fn open() -> Result<Self> {
        let what = || "the terminal".to_owned();
        let streams = [
            rustix::stdio::stderr(),
            rustix::stdio::stdout(),
            rustix::stdio::stdin(),
        ];
        let terminal = match streams.into_iter().find(|stream| isatty(stream)) {
            Some(stream) => stream.try_clone_to_owned().context(what)?,
            None => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                openat(CWD, "/dev/tty", flags, Mode::empty())
                    .map_err(|e| Error::invalid(format!("open /dev/tty: {}", text(e))))?
            }
        };
        let was = tcgetattr(&terminal).context(what)?;
        Ok(Self { terminal, was })
    }

    /// Shows the container's terminal in ours: what is typed is for the container's to interpret.
    pub fn show(self, master: OwnedFd) -> Result<Shown> {
        let what = || "the terminal".to_owned();
        let mut inside = tcgetattr(&master).context(what)?;
        // Ours does it.
        inside.output_modes -= OutputModes::ONLCR;
        tcsetattr(&master, OptionalActions::Now, &inside).context(what)?;
        rustix::io::ioctl_fionbio(&master, true).context(what)?;
        let mut raw = self.was.clone();
        raw.make_raw();
        raw.output_modes |= OutputModes::OPOST;
        tcsetattr(&self.terminal, OptionalActions::Now, &raw).context(what)?;
        let shown = Shown {
            host: self,
            master: File::from(master),
            typed: Vec::new(),
            input: true,
            output: true,
        };
        shown.resize();
        Ok(shown)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // There is nothing left to do about a terminal that is gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.was);
    }
}

fn text(error: Errno) -> String {
    crate::error::errno_text(&error.into())
}

/// A container's terminal in ours.
#[derive(Debug)]
pub(super) struct Shown {
    host: Host,
    master: File,
    /// Typed, and not taken yet by the container.
    typed: Vec<u8>,
    input: bool,
    output: bool,
}

impl Shown {
    /// Gives the container's the size of ours.
    pub fn resize(&self) {
        if let Ok(size) = tcgetwinsize(&self.host.terminal) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// What is waited for.
    pub fn polls(&self) -> Vec<PollFd<'_>> {
        let mut wanted = PollFlags::empty();
        if self.output {
            wanted |= PollFlags::IN;
        }
        if !self.typed.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let mut polls = Vec::new();
        if !wanted.is_empty() {
            polls.push(PollFd::new(&self.master, wanted));
        }
        if self.input && self.typed.is_empty() {
            polls.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        }
        polls
    }

    /// Carries what is there; `typed` where there is something to read from standard input.
    pub fn carry(&mut self, typed: bool) {
        self.carry_out();
        if typed && self.input && self.typed.is_empty() {
            let mut chunk = vec![0; CHUNK];
            match rustix::io::read(stdin(), &mut chunk) {
                Ok(n) if n > 0 => self.typed.extend_from_slice(&chunk[..n]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                _ => self.input = false,
            }
        }
        while !self.typed.is_empty() {
            match self.master.write(&self.typed) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.typed.clear();
                    self.input = false;
                }
            }
        }
    }

    /// Writes out everything that the container has written.
    pub fn carry_out(&mut self) {
        let mut chunk = vec![0; CHUNK];
        while self.output {
            match self.master.read(&mut chunk) {
                Ok(n) if n > 0 => {
                    let mut out = std::io::stdout().lock();
                    // Whoever does not want to see it any more need not.
                    let _ = out.write_all(&chunk[..n]).and_then(|()| out.flush());
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // Nobody has its other end open.
                _ => self.output = false,
            }
        }
    }
}

fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
