//! The registry: the OCI distribution protocol from the serving end (distribution-spec 1.1).
//!
//! Begin with [`Registry`]. A request goes from [`http::connection`] through [`dispatch`] to one file
//! per resource ([`blobs`], [`uploads`], [`manifests`], [`tags`], [`referrers`], [`catalog`]). What
//! is stored lies in [`storage`] (bytes) and [`record`] (SQLite).
//!
//! What a client can rely on: a blob is visible only once its digest was verified and its bytes are
//! on disk; a manifest is accepted only when everything it needs is there, with the sizes it tells;
//! what was answered with 201 is there after a crash.

mod blobs;
mod catalog;
mod dispatch;
mod document;
mod fault;
mod http;
mod manifests;
mod memory;
mod name;
mod paging;
mod range;
mod receive;
mod record;
mod referrers;
mod route;
mod service;
mod sessions;
mod settings;
mod storage;
mod tags;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use settings::Settings;

use crate::{Error, ErrorKind, Result};
use fault::Fault;
use service::Service;

/// A registry whose storage is open and whose address is bound.
pub struct Registry {
    service: Arc<Service>,
    listener: TcpListener,
}

impl Registry {
    /// Opens the storage and binds the address. Nothing is answered before [`serve`](Self::serve).
    pub async fn open(settings: Settings) -> Result<Self> {
        let address = settings.address.clone();
        let service = Service::open(settings).map_err(refused)?;
        let listener = TcpListener::bind(&address).await.map_err(|e| {
            Error::new(
                ErrorKind::Unavailable,
                format!("cannot listen on {address}: {e}"),
            )
            .with_source(e)
        })?;
        Ok(Self { service, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| {
            Error::new(ErrorKind::Internal, "the socket has no address").with_source(e)
        })
    }

    /// Serves until `ending` turns true, then lets running requests end for a while.
    pub async fn serve(self, ending: watch::Receiver<bool>) {
        http::connection::serve(self.listener, None, self.service, ending).await;
    }
}

fn refused(fault: Fault) -> Error {
    Error::new(ErrorKind::Internal, fault.message())
}
