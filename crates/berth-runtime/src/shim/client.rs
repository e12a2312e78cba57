//! Somebody who is attached to a process's streams.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::log::Stream;
use crate::task::AttachOptions;

/// Bytes that wait for a client beside what its socket holds. Once they are that many, the
/// process's output is left where it is until the client has read.
const QUEUE_MAX: usize = 256 << 10;
/// How long a client may hold the others up without reading a byte.
const PATIENCE: Duration = Duration::from_secs(60);

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    pub options: AttachOptions,
    /// With a terminal, output is sent as it is.
    raw: bool,
    queue: VecDeque<u8>,
    /// Since when something waits and nothing is taken.
    stuck_since: Option<Instant>,
    /// It sends nothing more.
    pub input_over: bool,
    pub gone: bool,
}

impl Client {
    pub fn new(socket: OwnedFd, options: AttachOptions, raw: bool) -> Self {
        // A socket that would block us is of no use: it is as good as gone.
        let gone = rustix::io::ioctl_fionbio(&socket, true).is_err();
        Self {
            socket,
            options,
            raw,
            queue: VecDeque::new(),
            stuck_since: None,
            input_over: !options.stdin,
            gone,
        }
    }

    /// Sends output, as far as it wants that.
    pub fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.options.stdout,
            Stream::Stderr => self.options.stderr,
        };
        if !wanted || self.gone || bytes.is_empty() {
            return;
        }
        if !self.raw {
            let mut head = [stream.frame_type(), 0, 0, 0, 0, 0, 0, 0];
            head[4..].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
            self.queue.extend(head);
        }
        self.queue.extend(bytes);
        self.flush();
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&mut self) {
        while !self.queue.is_empty() && !self.gone {
            match rustix::io::write(&self.socket, self.queue.as_slices().0) {
                Ok(n) => {
                    self.queue.drain(..n);
                    self.stuck_since = None;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.gone = true,
            }
        }
        if self.queue.is_empty() {
            self.queue.shrink_to(0);
        } else if self.stuck_since.is_none() {
            self.stuck_since = Some(Instant::now());
        }
    }

    fn full(&self) -> bool {
        !self.gone && self.queue.len() >= QUEUE_MAX
    }

    /// Whether more output may be read for it. One that has made others wait for too long is given
    /// up; after the process's end (`ended`), the shim is who waits.
    pub fn has_room(&mut self, now: Instant, ended: bool) -> bool {
        if self.deadline(ended).is_some_and(|deadline| deadline <= now) {
            self.gone = true;
        }
        !self.full()
    }

    /// When it is given up, if it goes on like this.
    pub fn deadline(&self, ended: bool) -> Option<Instant> {
        self.stuck_since
            .filter(|_| self.full() || ended)
            .map(|since| since + PATIENCE)
    }

    /// Whether all was sent.
    pub fn drained(&self) -> bool {
        self.gone || self.queue.is_empty()
    }

    /// What to wait for; nothing means that it is not to be waited for. `input` tells whether its
    /// input can be taken.
    pub fn interest(&self, input: bool) -> Option<PollFlags> {
        if self.gone {
            return None;
        }
        let mut flags = PollFlags::empty();
        if !self.queue.is_empty() {
            flags |= PollFlags::OUT;
        }
        if !self.input_over {
            // That it has gone is seen when its input has been read to the end.
            if input {
                flags |= PollFlags::IN;
            }
            return (!flags.is_empty()).then_some(flags);
        }
        Some(flags)
    }

    /// Reads its input. Nothing read means that there is none now.
    pub fn read<'b>(&mut self, buffer: &'b mut [u8]) -> &'b [u8] {
        match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => self.input_over = true,
            Ok(n) => return &buffer[..n],
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.input_over = true;
                self.gone = true;
            }
        }
        &[]
    }

    /// Tells it that nothing more comes.
    pub fn finish(&self) {
        // It may have gone itself.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_has_an_end() {
        let (here, there) = berth_sys::socket::stream_pair().unwrap();
        let mut client = Client::new(here, AttachOptions::OUTPUT, true);
        let now = Instant::now();
        let chunk = [b'x'; 32 << 10];
        while client.has_room(now, false) {
            client.output(Stream::Stdout, &chunk);
        }
        assert!(client.deadline(false).unwrap() > now && !client.gone);
        // One byte taken is enough to start anew.
        let mut taken = vec![0; 256 << 10];
        berth_sys::socket::receive(&there, &mut taken).unwrap();
        client.flush();
        assert!(client.has_room(now, false) || client.deadline(false).unwrap() >= now + PATIENCE);
        while client.has_room(now, false) {
            client.output(Stream::Stdout, &chunk);
        }
        client.has_room(Instant::now() + PATIENCE, false);
        assert!(client.gone && client.drained());
    }

    #[test]
    fn an_idle_client_is_kept_while_the_process_runs() {
        let (here, _there) = berth_sys::socket::stream_pair().unwrap();
        let mut client = Client::new(here, AttachOptions::OUTPUT, false);
        client.output(Stream::Stderr, b"x");
        let later = Instant::now() + 2 * PATIENCE;
        assert!(client.has_room(later, false) && client.has_room(later, true));
        assert!(client.drained() && !client.gone);
    }
}
