//! What a container's first process and its parent say to each other until the program runs.
//!
//! ```text
//! parent                                   child
//!   clone3 ─────────────────────────────────▶
//!   ◀──────────────────────── Born, Go ▶   from the one that goes ahead, if the way is indirect
//!   ◀─────────────────────────────────── Hooks, Go ▶   only with hooks of that point
//!   ◀──────────────────────────────── Terminal   its master, only with a terminal
//!   ◀──────────────────────────────── Listener, Go ▶   only where somebody else decides upon calls
//!   ◀─────────────────────────────────── Ready, Go ▶   only where the start is to wait
//!   ◀─────────────────────────────── Executing
//!   ◀────────────────────────────────────  end   the descriptor was closed by the exec
//! ```
//!
//! `Failed` may come instead of anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::socket;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// Bytes a message may have.
const MESSAGE_MAX: usize = 16 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// From the one that goes ahead: the process is there, with this number.
    Born {
        pid: i32,
    },
    /// Namespaces are there; the program's root is not yet.
    Hooks,
    /// With a descriptor: the terminal's master.
    Terminal,
    Warning(String),
    Ready,
    Executing,
    Failed(Error),
}

/// What a message with a listener's number starts with; all others are JSON.
const LISTENER: u8 = b'L';

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// A parent's end and a child's.
pub(crate) fn pair() -> Result<(Channel, Channel)> {
    let (parent, child) = socket::packet_pair().context(|| "socketpair".to_owned())?;
    Ok((Channel(parent), Channel(child)))
}

impl Channel {
    /// The child tells.
    pub fn tell(&self, message: &FromChild, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(message)?;
        if bytes.len() > MESSAGE_MAX {
            // Only texts can be that long.
            bytes = serde_json::to_vec(&FromChild::Failed(Error::internal("error too long")))?;
        }
        socket::send(&self.0, &bytes, fds)?;
        Ok(())
    }

    /// The child tells the number of its listener. Nothing but `write` is called, and nothing allocated:
    /// anything else may wait for whoever is to get that listener.
    pub fn tell_listener(&self, number: i32) -> io::Result<()> {
        let [a, b, c, d] = number.to_ne_bytes();
        rustix::io::write(&self.0, &[LISTENER, a, b, c, d])?;
        Ok(())
    }

    /// The child waits for the parent's word.
    pub fn await_go(&self) -> Result<()> {
        let mut word = [0; 4];
        match socket::receive(&self.0, &mut word) {
            Ok((2, _)) if word.starts_with(b"go") => Ok(()),
            Ok(_) => Err(Error::internal("the parent has gone")),
            Err(e) => Err(Error::internal(format!("waiting for the parent: {e}"))),
        }
    }

    /// The parent lets the child go on.
    pub fn go(&self) -> Result<()> {
        socket::send(&self.0, b"go", &[])
            .map(drop)
            .context(|| "telling the container's process to go on".to_owned())
    }

    /// Lets [`hear`](Self::hear) answer [`Heard::Nothing`] instead of waiting.
    pub fn set_nonblocking(&self) -> Result<()> {
        rustix::io::ioctl_fionbio(&self.0, true).context(|| "channel".to_owned())
    }

    /// The parent hears.
    pub fn hear(&self) -> Result<Heard> {
        let mut buffer = vec![0; MESSAGE_MAX];
        match socket::receive(&self.0, &mut buffer) {
            Ok((0, _)) => Ok(Heard::End),
            Ok((5, _)) if buffer[0] == LISTENER => {
                let number = [buffer[1], buffer[2], buffer[3], buffer[4]];
                Ok(Heard::Listener(i32::from_ne_bytes(number)))
            }
            Ok((n, fds)) => {
                let message = serde_json::from_slice(&buffer[..n])
                    .context(|| "message of the container's process".to_owned())?;
                Ok(Heard::Message(message, fds))
            }
            // It was killed with a word of ours unread.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(Heard::End),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(e) => Err(Error::internal(format!(
                "hearing the container's process: {e}"
            ))),
        }
    }
}

/// What there is to hear.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(FromChild, Vec<OwnedFd>),
    /// The process has put on a filter; this is its descriptor of the calls that wait.
    Listener(i32),
    /// The child's end is closed.
    End,
    /// Not now.
    Nothing,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
