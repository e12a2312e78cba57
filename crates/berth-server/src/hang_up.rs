//! Clients that are gone. One that has only ended its own half of the connection still reads; one that
//! has closed it does not, and nothing but a look tells the two apart as long as there is nothing to
//! write to it.
//!
//! Over TCP the end of a half and the end of all look alike, until something is written. A client that
//! asked with `GET` has nothing more to send, so its half's end is taken for the end of all, as Docker
//! does. One that vanished without a word is found by the kernel's probes ([`crate::listen`]).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use hyper::body::Body as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;

/// How often a connection is looked at that the kernel does not tell of.
const LOOK: Duration = Duration::from_secs(2);

/// The client's connection, to be looked at.
#[derive(Debug, Clone)]
pub struct Line {
    socket: Arc<OwnedFd>,
    /// Whether it is TCP: the end of the client's half may be the end of all.
    tcp: bool,
}

impl Line {
    /// That of a Unix socket. Without a descriptor to look at, the end is seen when something is written.
    pub fn of(socket: impl AsFd) -> Option<Self> {
        let socket = socket.as_fd().try_clone_to_owned().ok()?;
        Some(Self {
            socket: Arc::new(socket),
            tcp: false,
        })
    }

    /// That of a TCP socket.
    pub fn of_tcp(socket: impl AsFd) -> Option<Self> {
        Some(Self {
            tcp: true,
            ..Self::of(socket)?
        })
    }
}

/// Returns once the client has closed its end of `line`; never, where there is none to look at.
pub async fn hung_up(line: Option<Line>) {
    match line {
        Some(line) => told(line, PollFlags::HUP | PollFlags::ERR).await,
        None => std::future::pending().await,
    }
}

/// The body of an answer, which ends when its client is gone: what makes it is told at once, and not
/// with the next piece. `asked_all`: the client had nothing to send but its request.
pub fn watched(body: Body, line: Option<&Line>, asked_all: bool) -> Body {
    let Some(line) = line.filter(|_| body.size_hint().exact().is_none()) else {
        return body;
    };
    let mut signs = PollFlags::HUP | PollFlags::ERR;
    if line.tcp && asked_all {
        signs |= PollFlags::RDHUP;
    }
    let gone = Box::pin(told(line.clone(), signs));
    Body::from_stream(body.into_data_stream().take_until(gone))
}

/// Returns once one of `signs` shows on the socket.
async fn told(line: Line, signs: PollFlags) {
    let watch = Watch::new(&line).ok();
    while !shows(&line.socket, signs) {
        if let Some(watch) = &watch {
            watch.half_closed().await;
            if shows(&line.socket, signs) {
                return;
            }
        }
        // Half closed: of more than that nobody tells.
        tokio::time::sleep(LOOK).await;
    }
}

/// The connection once more, for the kernel to tell of it.
enum Watch {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

impl Watch {
    fn new(line: &Line) -> std::io::Result<Self> {
        let socket = line.socket.try_clone()?;
        Ok(match line.tcp {
            true => Self::Tcp(tokio::net::TcpStream::from_std(socket.into())?),
            false => Self::Unix(tokio::net::UnixStream::from_std(socket.into())?),
        })
    }

    /// Returns once the client has ended its half, or all.
    async fn half_closed(&self) {
        // Urgent bytes, which nobody sends, and ends.
        let told = match self {
            Self::Unix(socket) => socket.ready(Interest::PRIORITY).await,
            Self::Tcp(socket) => socket.ready(Interest::PRIORITY).await,
        };
        if let Err(error) = told {
            tracing::debug!(%error, "a connection cannot be watched");
        }
    }
}

fn shows(socket: &OwnedFd, signs: PollFlags) -> bool {
    let mut fds = [PollFd::new(socket, signs)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = poll(&mut fds, Some(&now));
    ready.is_ok() && fds[0].revents().intersects(signs)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

    #[test]
    fn half_closed_is_not_gone() {
        let (near, far) = UnixStream::pair().unwrap();
        let near = OwnedFd::from(near);
        assert!(!shows(&near, GONE));
        far.shutdown(Shutdown::Write).unwrap();
        assert!(!shows(&near, GONE));
        drop(far);
        assert!(shows(&near, GONE));
    }

    #[tokio::test]
    async fn the_kernel_tells() {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let mut gone = Box::pin(hung_up(Line::of(&near)));
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        drop(far);
        gone.await;
    }

    #[tokio::test]
    async fn an_endless_answer_ends_with_its_client() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (far, near) = tokio::join!(far, listener.accept());
        let (far, near) = (far.unwrap(), near.unwrap().0);
        let line = Line::of_tcp(&near);
        let endless = || {
            let never = futures_util::stream::pending::<std::io::Result<bytes::Bytes>>();
            Body::from_stream(never)
        };
        // What was asked with a body may go on after the end of the body.
        let patient = watched(endless(), line.as_ref(), false);
        let mut patient = patient.into_data_stream();
        let body = watched(endless(), line.as_ref(), true);
        let mut body = body.into_data_stream();
        assert!(futures_util::poll!(body.next()).is_pending());
        drop(far);
        assert!(body.next().await.is_none());
        assert!(futures_util::poll!(patient.next()).is_pending());
        let short = watched(Body::from("x"), line.as_ref(), true);
        assert_eq!(short.size_hint().exact(), Some(1));
    }
}
