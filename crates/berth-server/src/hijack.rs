//! Connections that stop being HTTP: attach and exec. The client sends `Upgrade: tcp` and gets 101;
//! one that does not gets 200 with the output as the body and its own body as standard input.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use berth_engine::Session;
use berth_spec::docker::stream::{MULTIPLEXED_STREAM, RAW_STREAM};
use berth_sys::outgoing::all_read;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;

use crate::body;
use crate::hang_up::{Line, hung_up};

/// Bytes of output that may wait for a client without an upgraded connection.
const BEHIND: usize = 64 << 10;

/// A client that is awake has read its head after this.
const HEAD_SOON: Duration = Duration::from_millis(1);
/// One that has not after this does not read at all.
const HEAD_LONGEST: Duration = Duration::from_millis(200);

/// A request that may give up its connection.
pub struct Hijack {
    upgrade: Option<OnUpgrade>,
    line: Option<Line>,
    body: Body,
}

impl Hijack {
    /// Takes the connection out of a request.
    pub fn new(mut request: Request<Body>) -> Self {
        let asked = request.headers().contains_key(header::UPGRADE);
        Self {
            upgrade: asked.then(|| hyper::upgrade::on(&mut request)),
            line: request.extensions().get::<Line>().cloned(),
            body: request.into_body(),
        }
    }

    /// Answers and, once the connection is free, runs the session on it in a task of its own.
    pub fn answer(self, session: Session) -> Response {
        let kind = HeaderValue::from_static(if session.tty() {
            RAW_STREAM
        } else {
            MULTIPLEXED_STREAM
        });
        let gone = hung_up(self.line);
        let mut response = match self.upgrade {
            Some(upgrade) => {
                tokio::spawn(async move {
                    let ended = match upgrade.await {
                        Ok(upgraded) => tokio::select! {
                            ended = run(session, upgraded) => ended,
                            () = gone => Ok(()),
                        },
                        Err(e) => Err(std::io::Error::other(e)),
                    };
                    log_end(ended);
                });
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
                response
            }
            None => {
                let (near, far) = tokio::io::duplex(BEHIND);
                let client = tokio::io::join(body::reader(self.body), near);
                tokio::spawn(async move {
                    tokio::select! {
                        ended = session.run(client) => log_end(ended),
                        () = gone => {}
                    }
                });
                Response::new(Body::from_stream(ReaderStream::new(far)))
            }
        };
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// Runs a session on a connection whose head has been sent.
async fn run(session: Session, upgraded: Upgraded) -> std::io::Result<()> {
    match upgraded.downcast::<TokioIo<UnixStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner();
            head_taken(&stream).await;
            let (reading, writing) = stream.into_split();
            let early = std::io::Cursor::new(parts.read_buf);
            session
                .run(tokio::io::join(early.chain(reading), writing))
                .await
        }
        Err(upgraded) => session.run(TokioIo::new(upgraded)).await,
    }
}

/// Waits, though not for ever, until the client has read the head. docker-py loses what comes with it: it
/// reads the head through a buffer and the stream past it. dockerd is too slow at starting processes for
/// that to show.
async fn head_taken(stream: &UnixStream) {
    let began = Instant::now();
    while let (Ok(false), waited) = (all_read(stream), began.elapsed()) {
        if waited > HEAD_LONGEST {
            return;
        }
        if waited < HEAD_SOON {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(HEAD_SOON).await;
        }
    }
}

/// A client that leaves in the middle is no fault of anybody here.
fn log_end(ended: std::io::Result<()>) {
    if let Err(e) = ended {
        tracing::debug!(error = %e, "an attached client left");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn output_waits_for_the_head_to_be_read() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.write_all(b"head").await.unwrap();
        let mut taken = std::pin::pin!(head_taken(&near));
        let now = futures_util::poll!(taken.as_mut());
        assert!(now.is_pending());
        far.read_exact(&mut [0; 4]).await.unwrap();
        taken.await;
        assert!(all_read(&near).unwrap());
    }
}
