//! Output sent on, line by line, to a syslog server or the journal.
//!
//! Nothing here waits: what the receiver does not take yet stands in a queue with a bound. A
//! receiver that is gone is tried again once a second.

mod connection;
mod journal;
mod syslog;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::PollFlags;

use self::connection::{Connection, Sent};
use super::log::Stream;
use crate::task::{ForwardSpec, ForwardTarget};

/// How long a receiver that could not be reached is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// How long what is left is still offered once the container has ended.
const LAST: Duration = Duration::from_secs(2);

/// One line, or a piece of a long one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'l> {
    pub stream: Stream,
    /// Without its newline.
    pub text: &'l [u8],
    /// More of the line follows.
    pub partial: bool,
    pub at: Timestamp,
}

/// A receiver, and what waits for it.
#[derive(Debug)]
pub(super) struct Forwarder {
    spec: ForwardSpec,
    zone: jiff::tz::TimeZone,
    connection: Option<Connection>,
    /// Whole messages, the oldest first.
    queue: VecDeque<Vec<u8>>,
    /// Bytes in the queue.
    queued: usize,
    /// Lines that found no room.
    lost: u64,
    /// Not to be connected before.
    pause: Option<Instant>,
    /// Given up then.
    deadline: Option<Instant>,
}

impl Forwarder {
    pub fn new(spec: ForwardSpec) -> Self {
        Self {
            zone: syslog::local_zone(),
            spec,
            connection: None,
            queue: VecDeque::new(),
            queued: 0,
            lost: 0,
            pause: None,
            deadline: None,
        }
    }

    /// Takes a line in.
    pub fn line(&mut self, line: Line<'_>) {
        let message = self.encode(line);
        if self.queued + message.len() > self.spec.buffer {
            self.flush();
        }
        if self.queued + message.len() > self.spec.buffer {
            self.lost += 1;
        } else {
            self.push(message);
        }
    }

    fn encode(&self, line: Line<'_>) -> Vec<u8> {
        match &self.spec.to {
            ForwardTarget::Syslog {
                format,
                facility,
                hostname,
                tag,
                ..
            } => syslog::Header {
                format: *format,
                facility: *facility,
                hostname,
                tag,
                zone: &self.zone,
            }
            .message(line),
            ForwardTarget::Journal { fields, .. } => journal::message(fields, line),
        }
    }

    fn push(&mut self, message: Vec<u8>) {
        self.queued += message.len();
        self.queue.push_back(message);
    }

    /// Whether a slow receiver holds the container up.
    pub fn full(&self) -> bool {
        self.spec.blocking && self.connection.is_some() && self.queued * 2 > self.spec.buffer
    }

    /// Gives the receiver what it takes.
    pub fn flush(&mut self) {
        while let Some(message) = self.queue.front() {
            let Some(connection) = &mut self.connection else {
                if !self.connect() {
                    return;
                }
                continue;
            };
            match connection.send(message) {
                Sent::Whole => self.pop(),
                Sent::Later => return,
                // A message that the receiver does not take at all, such as one that is too long.
                Sent::Refused => {
                    self.lost += 1;
                    self.pop();
                }
                Sent::Gone => {
                    self.connection = None;
                    self.pause = Some(Instant::now() + PAUSE);
                    return;
                }
            }
            if self.queue.is_empty() {
                self.tell_lost();
            }
        }
    }

    fn pop(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.queued -= message.len();
        }
    }

    /// What was lost is told in the place where it is missing.
    fn tell_lost(&mut self) {
        if self.lost > 0 {
            let text = format!("berth: {} lines of this log were lost", self.lost);
            self.lost = 0;
            let message = self.encode(Line {
                stream: Stream::Stderr,
                text: text.as_bytes(),
                partial: false,
                at: Timestamp::now(),
            });
            self.push(message);
        }
    }

    fn connect(&mut self) -> bool {
        if self.pause.is_some_and(|until| until > Instant::now()) {
            return false;
        }
        match Connection::open(&self.spec.to) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.pause = None;
                true
            }
            Err(_) => {
                self.pause = Some(Instant::now() + PAUSE);
                false
            }
        }
    }

    /// What to wait for: the receiver's room, and the time of the next try.
    pub fn interest(&self) -> (Option<(BorrowedFd<'_>, PollFlags)>, Option<Instant>) {
        if self.queue.is_empty() {
            return (None, None);
        }
        match &self.connection {
            Some(connection) => (Some((connection.fd(), PollFlags::OUT)), self.deadline),
            None => (None, self.pause.or(self.deadline)),
        }
    }

    /// Nothing more comes.
    pub fn end(&mut self) {
        self.deadline.get_or_insert_with(|| Instant::now() + LAST);
        self.flush();
    }

    /// Whether everything has gone, or is given up.
    pub fn over(&self) -> bool {
        self.queue.is_empty() || self.deadline.is_some_and(|until| until <= Instant::now())
    }
}
