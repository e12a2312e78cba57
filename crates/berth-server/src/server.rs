//! The accept loop: connections in, requests to the router, an end in good order.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, watch};
use tower::ServiceExt;

use crate::error::ApiError;
use crate::hang_up::{Line, watched};
use crate::listen::{Listener, Socket};
use crate::origin::{self, AllowedHosts};
use crate::version;

/// Connections served at once; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 8192;
/// A client has this long to send a request's header.
const HEADER_TIME: Duration = Duration::from_secs(20);
/// Bytes a request's header may have.
const HEADER_MAX: usize = 64 << 10;
/// After a failed accept (no descriptors left, usually) the loop rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A TCP client that says nothing is asked this long after its last word whether it is there,
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// this often again,
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// and so often in all.
const PROBES: u32 = 4;
/// How long running requests may take to end once the engine is asked to.
const DRAIN: Duration = Duration::from_secs(3);

/// Counts the connections, so that an engine started on demand knows when nobody needs it.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<ActivityState>);

#[derive(Debug, Default)]
struct ActivityState {
    open: AtomicUsize,
    changed: Notify,
}

struct Open(Activity);

impl Activity {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Waits until a connection opens or closes.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn enter(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.0.changed.notify_waiters();
    }
}

/// Serves `router` on every listener until `shutdown` turns true; then waits for what runs.
pub async fn serve(
    listeners: Vec<Listener>,
    router: Router,
    activity: Activity,
    shutdown: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut loops = tokio::task::JoinSet::new();
    for listener in listeners {
        loops.spawn(accept(
            listener,
            router.clone(),
            activity.clone(),
            permits.clone(),
            shutdown.clone(),
        ));
    }
    while loops.join_next().await.is_some() {}
    // Streams such as `events` end only when their client goes; they are cut off after the drain.
    let _ = tokio::time::timeout(DRAIN, async {
        while activity.open() > 0 {
            let changed = activity.changed();
            if activity.open() == 0 {
                break;
            }
            changed.await;
        }
    })
    .await;
}

async fn accept(
    listener: Listener,
    router: Router,
    activity: Activity,
    permits: Arc<Semaphore>,
    mut shutdown: watch::Receiver<bool>,
) {
    let hosts = Arc::new(listener.hosts);
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = ending(&mut shutdown) => break,
            accepted = accept_one(&listener.socket) => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(e) => {
                tracing::warn!(error = %e, listener = listener.name, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let open = activity.enter();
        let (router, hosts, shutdown) = (router.clone(), hosts.clone(), shutdown.clone());
        tokio::spawn(async move {
            match stream {
                Accepted::Unix(stream) => {
                    let line = Line::of(&stream);
                    connection(stream, line, router, hosts, HEADER_TIME, shutdown).await;
                }
                Accepted::Tcp(stream) => {
                    let line = Line::of_tcp(&stream);
                    connection(stream, line, router, hosts, HEADER_TIME, shutdown).await;
                }
                Accepted::Tls(stream, tls) => {
                    let line = Line::of_tcp(&stream);
                    match tokio::time::timeout(HEADER_TIME, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            connection(stream, line, router, hosts, HEADER_TIME, shutdown).await;
                        }
                        Ok(Err(e)) => tracing::debug!(error = %e, "TLS handshake failed"),
                        Err(_) => tracing::debug!("TLS handshake timed out"),
                    }
                }
            }
            drop((open, permit));
        });
    }
    if let Some(path) = listener.path {
        // Already gone is as good.
        let _ = std::fs::remove_file(path);
    }
}

/// Returns when the engine is asked to end. That the asking side is gone means the same.
async fn ending(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|ending| *ending).await.is_ok();
}

enum Accepted {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
    Tls(tokio::net::TcpStream, tokio_rustls::TlsAcceptor),
}

async fn accept_one(socket: &Socket) -> std::io::Result<Accepted> {
    Ok(match socket {
        Socket::Unix(socket) => Accepted::Unix(socket.accept().await?.0),
        Socket::Tcp(socket) => Accepted::Tcp(attended(socket.accept().await?.0)),
        Socket::Tls(socket, tls) => Accepted::Tls(attended(socket.accept().await?.0), tls.clone()),
    })
}

/// Small pieces go at once; a client that vanished without a word (its machine, or the way to it) is
/// noticed after some two minutes, whether there is something to write to it or not.
fn attended(stream: tokio::net::TcpStream) -> tokio::net::TcpStream {
    use rustix::net::sockopt;
    // A missing option costs latency, or patience, only.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_tcp_keepidle(&stream, PROBE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(&stream, PROBE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(&stream, PROBES);
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let longest = PROBE_AFTER + PROBE_EVERY * PROBES;
    let longest = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(&stream, longest);
    stream
}

async fn connection<S>(
    stream: S,
    line: Option<Line>,
    router: Router,
    hosts: Arc<AllowedHosts>,
    header_time: Duration,
    mut shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(line) = &line {
            request.extensions_mut().insert(line.clone());
        }
        let asked_all = request.method() == http::Method::GET;
        let (router, hosts, line) = (router.clone(), hosts.clone(), line.clone());
        async move {
            let response = answer(request, router, &hosts).await;
            let response = response.map(|body| watched(body, line.as_ref(), asked_all));
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(HEADER_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "connection ended early");
    }
}

async fn answer(request: Request<Incoming>, router: Router, hosts: &AllowedHosts) -> Response {
    let mut request = request.map(Body::new);
    let mut response = match prepare(&mut request, hosts) {
        // No panic crosses a request: what it was about may be half done, all else goes on.
        Ok(()) => match AssertUnwindSafe(router.oneshot(request))
            .catch_unwind()
            .await
        {
            Ok(Ok(response)) => response,
            // The router's error type has no values.
            Ok(Err(never)) => match never {},
            // What it says stands in the log.
            Err(_) => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request ended in an internal error of the engine: its log says where",
            )
            .into_response(),
        },
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        "Api-Version",
        HeaderValue::from_static(berth_spec::docker::API_VERSION),
    );
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(
        "Server",
        HeaderValue::from_static(concat!("Berth/", env!("CARGO_PKG_VERSION"), " (linux)")),
    );
    response
}

/// Refuses browsers, then takes the version off the path.
fn prepare(request: &mut Request<Body>, hosts: &AllowedHosts) -> crate::error::Reply<()> {
    origin::check(request.headers(), hosts)?;
    let (version, rest) = version::split(request.uri().path())?;
    let uri = version::strip(request.uri(), rest);
    *request.uri_mut() = uri;
    request.extensions_mut().insert(version);
    Ok(())
}

#[cfg(test)]
mod tests;
