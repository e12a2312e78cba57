//! Waiting for many descriptors. What is waited for is said anew each time, from the state of
//! things: there is nothing to forget to register.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Descriptors, and what each stands for.
#[derive(Debug)]
pub(super) struct Interests<'fd, T> {
    polls: Vec<PollFd<'fd>>,
    tokens: Vec<T>,
    deadline: Option<Instant>,
}

impl<'fd, T: Copy> Interests<'fd, T> {
    pub fn new() -> Self {
        Self {
            polls: Vec::with_capacity(16),
            tokens: Vec::with_capacity(16),
            deadline: None,
        }
    }

    /// Waits for `fd`; with no flags, for its end alone.
    pub fn add(&mut self, fd: BorrowedFd<'fd>, flags: PollFlags, token: T) {
        self.polls.push(PollFd::from_borrowed_fd(fd, flags));
        self.tokens.push(token);
    }

    /// Waits no longer than until then.
    pub fn before(&mut self, deadline: Option<Instant>) {
        self.deadline = match (self.deadline, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Waits; answers what is ready, for what.
    pub fn wait(mut self) -> Vec<(T, PollFlags)> {
        loop {
            let timeout = self.deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                Timespec {
                    tv_sec: left.as_secs().min(3600) as i64,
                    // Rounded up, so that the deadline has passed when this returns.
                    tv_nsec: i64::from(left.subsec_nanos())
                        .saturating_add(1)
                        .min(999_999_999),
                }
            });
            match poll(&mut self.polls, timeout.as_ref()) {
                Err(Errno::INTR) => {}
                // Too little memory for the moment: look at everything.
                Err(_) => return Vec::new(),
                Ok(_) => break,
            }
        }
        self.polls
            .iter()
            .zip(&self.tokens)
            .filter(|(poll, _)| !poll.revents().is_empty())
            .map(|(poll, token)| (*token, poll.revents()))
            .collect()
    }
}
