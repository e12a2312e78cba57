//! One upstream registry, reached by the client that `berth pull` has.

use std::sync::Arc;

use berth_spec::Reference;
use http::StatusCode;
use http::header;
use tokio::sync::Mutex;

use super::{CacheSettings, Cached};
use crate::registry::Registry;
use crate::server::fault::{Code, Fault, Reply};
use crate::{Client, Credentials, Error, ErrorKind};

pub(crate) struct Upstream {
    pub(crate) settings: CacheSettings,
    pub(crate) client: Client,
    connected: Mutex<Option<Arc<Registry>>>,
}

impl Upstream {
    pub(crate) fn new(settings: CacheSettings, client: Client) -> Self {
        Self {
            settings,
            client,
            connected: Mutex::new(None),
        }
    }

    /// The account there, if there is one.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        let CacheSettings {
            username, password, ..
        } = &self.settings;
        (!username.is_empty()).then(|| Credentials::basic(username, password.expose()))
    }

    /// The repository as the client names it.
    pub(crate) fn reference(&self, cached: &Cached) -> Reply<Reference> {
        format!("{}/{}", self.settings.upstream, cached.there)
            .parse()
            .map_err(|e| Fault::new(Code::NameInvalid, format!("{}: {e}", cached.there)))
    }

    /// A connection, made anew where there is none.
    pub(crate) async fn connect(&self, reference: &Reference) -> Result<Arc<Registry>, Error> {
        let mut connected = self.connected.lock().await;
        if let Some(registry) = &*connected {
            return Ok(registry.clone());
        }
        let credentials = self.credentials();
        let host = reference.registry_host();
        let registry = Registry::of_host(self.client.shared(), host, credentials.as_ref()).await?;
        let registry = Arc::new(registry);
        *connected = Some(registry.clone());
        Ok(registry)
    }

    /// The next request connects anew: another address or other credentials may do.
    pub(crate) async fn disconnect(&self) {
        *self.connected.lock().await = None;
    }
}

/// What a client is told of an upstream's failure.
pub(crate) fn fault(upstream: &str, error: &Error) -> Fault {
    let message = format!("{upstream}: {error}");
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Unauthorized => Fault::new(Code::ManifestUnknown, message),
        _ => match error.retry_after() {
            Some(wait) => Fault::new(Code::TooManyRequests, message)
                .with_header(header::RETRY_AFTER, wait.as_secs().to_string()),
            None => Fault::new(Code::Unavailable, message).with_status(StatusCode::BAD_GATEWAY),
        },
    }
}
