//! What a shim tells by itself.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::ExitStatus;
use crate::error::{Context, Result};
use crate::shim::protocol::{Notice, Status, length};
use crate::task::client::Ended;

/// Something that happened in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The container's process has ended. Nothing follows.
    Exit(ExitStatus),
    /// A further process has ended. Comes before the end of its stream.
    ExecExit { id: String, status: ExitStatus },
}

/// The events of one container, each once. What happened before is told first.
///
/// The descriptor becomes readable when [`next`](Self::next) would not wait, or not for long.
#[derive(Debug)]
pub struct Events {
    socket: OwnedFd,
    ended: Ended,
    buffer: Vec<u8>,
    ready: VecDeque<Event>,
    over: bool,
}

impl Events {
    pub(super) fn new(socket: OwnedFd, ended: Ended, status: &Status) -> Self {
        let mut ready: VecDeque<Event> = status
            .exec_exits
            .iter()
            .map(|(id, status)| Event::ExecExit {
                id: id.clone(),
                status: *status,
            })
            .collect();
        ready.extend(status.exit.map(Event::Exit));
        Self {
            socket,
            ended,
            buffer: Vec::new(),
            ready,
            over: false,
        }
    }

    /// Lets [`next`](Self::next) answer [`io::ErrorKind::WouldBlock`] instead of waiting, for use
    /// with a poller. Ask `next` first, and poll when it would block.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, true)?)
    }

    /// The next event, waited for; none after [`Event::Exit`].
    ///
    /// A shim that was killed takes its container along: that reads as an exit by SIGKILL.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator could not be asked again after WouldBlock"
    )]
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.over {
                return Ok(None);
            }
            if let Some(event) = self.ready.pop_front() {
                self.over = matches!(event, Event::Exit(_));
                return Ok(Some(event));
            }
            if let Some(notice) = self.notice()? {
                self.ready.push_back(match notice {
                    Notice::Exit(status) => Event::Exit(status),
                    Notice::ExecExit { id, status } => Event::ExecExit { id, status },
                });
                continue;
            }
            let mut chunk = [0; 4096];
            match rustix::io::read(&self.socket, &mut chunk) {
                Ok(0) | Err(Errno::CONNRESET) => {
                    self.ready.push_back(Event::Exit(self.ended.find()));
                }
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits for the container's process to end; further processes' ends are passed over.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        loop {
            match self.next().context(|| "waiting for the shim".to_owned())? {
                Some(Event::Exit(status)) => return Ok(status),
                Some(Event::ExecExit { .. }) => {}
                None => return Ok(self.ended.find()),
            }
        }
    }

    /// A whole message out of what has been read.
    fn notice(&mut self) -> io::Result<Option<Notice>> {
        let Some(head) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let end = 4 + length(*head)?;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let notice = serde_json::from_slice(&self.buffer[4..end])?;
        self.buffer.drain(..end);
        Ok(Some(notice))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
