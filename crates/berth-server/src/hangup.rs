//! A client that has gone, noticed while it is told nothing.
//!
//! A client may close its sending side and still wait for the answer, so the end of what it sends
//! says nothing, and HTTP does not look further. The socket does: it hangs up once both sides are
//! closed. Over TCP that shows only when something is sent; a local client is noticed at once.

use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Watches a connection that somebody else reads and writes.
#[derive(Debug)]
pub struct Hangup(Option<AsyncFd<OwnedFd>>);

impl Hangup {
    /// Watches `socket`. One that cannot be watched never hangs up.
    pub fn of(socket: impl AsFd) -> Self {
        let watched = socket.as_fd().try_clone_to_owned();
        Self(
            watched
                .and_then(|fd| AsyncFd::with_interest(fd, Interest::WRITABLE))
                .ok(),
        )
    }

    /// Returns once the peer has closed both sides.
    pub async fn noticed(&self) {
        if let Some(socket) = &self.0 {
            while let Ok(mut ready) = socket.ready(Interest::WRITABLE).await {
                if ready.ready().is_write_closed() {
                    return;
                }
                ready.clear_ready();
            }
        }
        std::future::pending().await
    }
}

/// Whether a request is being handled. Handlers are not cut off half way; what they answered is.
#[derive(Debug, Clone)]
pub struct Handling(watch::Sender<bool>);

impl Handling {
    /// Nothing is.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// A request is, until the value goes.
    pub fn begin(&self) -> Handled {
        self.0.send_replace(true);
        Handled(self.0.clone())
    }

    /// Returns once nothing is.
    pub async fn done(&self) {
        // The sender is ours, so the channel does not close.
        let _ = self.0.subscribe().wait_for(|handling| !handling).await;
    }
}

/// See [`Handling::begin`].
#[derive(Debug)]
pub struct Handled(watch::Sender<bool>);

impl Drop for Handled {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn only_both_sides_are_a_hangup() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let hangup = Hangup::of(&ours);
        let handling = Handling::new();
        handling.done().await;
        theirs.shutdown(Shutdown::Write).unwrap();
        // The end of what they send can be read: it has arrived.
        assert_eq!(std::io::Read::read(&mut &ours, &mut [0]).unwrap(), 0);
        tokio::select! {
            biased;
            () = hangup.noticed() => panic!("half a close is none"),
            () = tokio::task::yield_now() => {}
        }
        let handled = handling.begin();
        drop(theirs);
        hangup.noticed().await;
        drop(handled);
        handling.done().await;
    }
}
