//! The registry: the OCI distribution protocol from the serving end (distribution-spec 1.1).
//!
//! Begin with [`Registry`]. A request goes from [`http::connection`] through [`dispatch`] to one file
//! per resource ([`blobs`], [`uploads`], [`manifests`], [`tags`], [`referrers`], [`catalog`]). What
//! is stored lies in [`storage`] (bytes: files or an object store) and [`record`] (SQLite or PostgreSQL).
//!
//! What a client can rely on: a blob is visible only once its digest was verified and its bytes are
//! on disk; a manifest is accepted only when everything it needs is there, with the sizes it tells;
//! what was answered with 201 is there after a crash.

mod access;
mod blobs;
mod cache;
mod catalog;
mod collect;
mod dispatch;
mod document;
mod engine;
mod events;
mod fault;
mod http;
mod manifests;
mod memory;
mod metrics;
mod name;
mod page;
mod paging;
mod pattern;
mod policy;
mod pulls;
mod range;
mod receive;
mod record;
mod referrers;
mod retention;
mod route;
mod service;
mod sessions;
mod settings;
mod storage;
mod tags;
mod tls;
mod token_service;
mod units;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use access::Verb;
pub use access::settings::{AuthSettings, Method, Robot, Rule};
pub use cache::CacheSettings;
pub use collect::{Collected, Collection};
pub use events::Action;
pub use events::audit::AuditSettings;
pub use events::webhook::Webhook;
pub use pattern::Pattern;
pub use policy::{Immutable, Quota};
pub use record::PostgresSettings;
pub use retention::Retention;
pub use settings::{Settings, TlsSettings};
pub use storage::bucket::settings::S3Settings;
pub use units::{Bytes, Span};

use crate::{Error, ErrorKind, Result};
use fault::Fault;
use service::Service;

/// A registry whose storage is open and whose address is bound.
pub struct Registry {
    service: Arc<Service>,
    listener: TcpListener,
    tls: Option<tls::Tls>,
}

impl Registry {
    /// Opens the storage and binds the address. Nothing is answered before [`serve`](Self::serve).
    pub async fn open(settings: Settings) -> Result<Self> {
        let address = settings.address.clone();
        let tls = settings
            .tls
            .as_ref()
            .map(tls::Tls::open)
            .transpose()
            .map_err(refused)?;
        let opening = tokio::task::spawn_blocking(move || Service::open(settings));
        let service = opening
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?
            .map_err(refused)?;
        let listener = TcpListener::bind(&address).await.map_err(|e| {
            Error::new(
                ErrorKind::Unavailable,
                format!("cannot listen on {address}: {e}"),
            )
            .with_source(e)
        })?;
        Ok(Self {
            service,
            listener,
            tls,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| {
            Error::new(ErrorKind::Internal, "the socket has no address").with_source(e)
        })
    }

    /// Collects once, now; what was removed.
    pub async fn collect(&self) -> Result<Collected> {
        self.service
            .blocking(|service| collect::once(service))
            .await
            .map_err(refused)
    }

    /// Serves until `ending` turns true, then lets running requests end for a while.
    pub async fn serve(self, ending: watch::Receiver<bool>) {
        let mut helpers = JoinSet::new();
        helpers.spawn(collect::run(self.service.clone()));
        if !self.service.settings.read_only {
            helpers.spawn(pulls::run(self.service.clone()));
        }
        http::connection::serve(self.listener, self.tls, self.service, ending).await;
        // They hold the storage: whoever comes next must find it free.
        helpers.shutdown().await;
    }
}

fn refused(fault: Fault) -> Error {
    Error::new(ErrorKind::Internal, fault.message())
}
