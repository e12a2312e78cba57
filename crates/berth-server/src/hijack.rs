//! Connections that stop being HTTP: attach and exec. The client sends `Upgrade: tcp` and gets 101;
//! one that does not gets 200 with the output as the body and its own body as standard input.

use axum::body::Body;
use axum::response::Response;
use berth_engine::Session;
use berth_spec::docker::stream::{MULTIPLEXED_STREAM, RAW_STREAM};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::io::ReaderStream;

use crate::body;

/// Bytes of output that may wait for a client without an upgraded connection.
const BEHIND: usize = 64 << 10;

/// A request that may give up its connection.
pub struct Hijack {
    upgrade: Option<OnUpgrade>,
    body: Body,
}

impl Hijack {
    /// Takes the connection out of a request.
    pub fn new(mut request: Request<Body>) -> Self {
        let asked = request.headers().contains_key(header::UPGRADE);
        Self {
            upgrade: asked.then(|| hyper::upgrade::on(&mut request)),
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
        let mut response = match self.upgrade {
            Some(upgrade) => {
                tokio::spawn(async move {
                    let ended = match upgrade.await {
                        Ok(upgraded) => session.run(TokioIo::new(upgraded)).await,
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
                tokio::spawn(async move { log_end(session.run(client).await) });
                Response::new(Body::from_stream(ReaderStream::new(far)))
            }
        };
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// A client that leaves in the middle is no fault of anybody here.
fn log_end(ended: std::io::Result<()>) {
    if let Err(e) = ended {
        tracing::debug!(error = %e, "an attached client left");
    }
}
