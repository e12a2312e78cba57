//! Connections: accepted, bounded, timed, served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Request;
use super::wire::{Parts, Wire};
use crate::server::dispatch;
use crate::server::service::Service;
use crate::server::tls::Tls;

/// Connections served at once; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 16_384;
/// A client has this long to send a request's header, and this long between requests.
const HEADER_TIME: Duration = Duration::from_secs(60);
/// A TLS handshake has this long.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);
/// Bytes a request's header may have.
const HEADER_MAX: usize = 64 << 10;
/// A client that acknowledges nothing for this long is gone, in milliseconds.
const UNACKNOWLEDGED: u32 = 60_000;
/// After a failed accept (no descriptors left, usually) the loop rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long running requests may take to end once the registry is asked to.
const DRAIN: Duration = Duration::from_secs(10);

/// What a request is told of its connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    /// Where the connection can send files itself.
    pub(crate) parts: Option<Parts>,
}

/// Serves `listener` until `ending` turns true; then waits a while for what runs.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    service: Arc<Service>,
    mut ending: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = ended(&mut ending) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let tls = tls.as_ref().map(Tls::acceptor);
        let (service, ending) = (service.clone(), ending.clone());
        tasks.spawn(async move {
            welcome(stream, address, tls, service, ending).await;
            drop(permit);
        });
    }
    drop(listener);
    tasks.close();
    // What takes longer is broken off; uploads can be resumed.
    let _ = tokio::time::timeout(DRAIN, tasks.wait()).await;
}

/// Returns when the registry is asked to end. That the asking side is gone means the same.
async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await.is_ok();
}

async fn welcome(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    service: Arc<Service>,
    ending: watch::Receiver<bool>,
) {
    // Missing options cost latency and patience only.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED);
    let mut peer = Peer {
        address,
        tls: tls.is_some(),
        parts: None,
    };
    let Some(tls) = tls else {
        let parts = Parts::default();
        peer.parts = Some(parts.clone());
        return talk(Wire::new(stream, parts), peer, service, ending).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
        Ok(Ok(stream)) => talk(stream, peer, service, ending).await,
        Ok(Err(e)) => tracing::debug!(%address, error = %e, "TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "TLS handshake timed out"),
    }
}

async fn talk<S>(stream: S, peer: Peer, service: Arc<Service>, mut ending: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answering = hyper::service::service_fn(move |request: Request| {
        let (service, peer) = (service.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(dispatch::answer(service, request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_header_size(HEADER_MAX)
        .writev(true)
        .serve_connection(TokioIo::new(stream), answering);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ended(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "connection ended early");
    }
}
