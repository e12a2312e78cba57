//! Clients that are gone. One that has only ended its own half of the connection still reads; one that
//! has closed it does not, and nothing but a look tells the two apart as long as there is nothing to
//! write to it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The client's connection, to be looked at.
#[derive(Debug, Clone)]
pub struct Line(Arc<OwnedFd>);

impl Line {
    /// That of a Unix socket. Without a descriptor to look at, the end is seen when something is written.
    pub fn of(socket: impl AsFd) -> Option<Self> {
        let socket = socket.as_fd().try_clone_to_owned().ok()?;
        Some(Self(Arc::new(socket)))
    }
}

/// Returns once the client has closed its end of `line`; never, where there is none to look at.
pub async fn hung_up(line: Option<Line>) {
    let Some(Line(socket)) = line else {
        return std::future::pending().await;
    };
    while !gone(&socket) {
        tokio::time::sleep(LOOK).await;
    }
}

fn gone(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = poll(&mut fds, Some(&now));
    ready.is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn half_closed_is_not_gone() {
        let (near, far) = UnixStream::pair().unwrap();
        let near = OwnedFd::from(near);
        assert!(!gone(&near));
        far.shutdown(Shutdown::Write).unwrap();
        assert!(!gone(&near));
        drop(far);
        assert!(gone(&near));
    }
}
