//! The remote client: what it is told, what it answers.

use std::path::PathBuf;
use std::sync::Arc;

use berth_spec::{Digest, Reference};
use berth_store::Store;

use crate::{Credentials, Error, ErrorKind, ProgressSender, Result};

/// How registries are reached. Nothing here is read from the environment: the daemon passes it in.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Base URLs asked before Docker Hub itself, in order (`--registry-mirror`).
    pub mirrors: Vec<String>,
    /// Hosts (`host[:port]`) or networks (CIDR) that may be spoken to without TLS or with an
    /// unknown certificate (`--insecure-registry`). Loopback always may.
    pub insecure_registries: Vec<String>,
    /// Where `<host>/{*.crt,client.cert,client.key}` are looked for, e.g. `/etc/docker/certs.d`.
    pub certs_dirs: Vec<PathBuf>,
    /// Proxy for http URLs, as `HTTP_PROXY` would say it.
    pub http_proxy: Option<String>,
    /// Proxy for https URLs.
    pub https_proxy: Option<String>,
    /// Hosts that need no proxy, comma separated.
    pub no_proxy: Option<String>,
    /// `User-Agent`.
    pub user_agent: String,
    /// Layers fetched at once, per pull; 0 means 3.
    pub max_concurrent_downloads: usize,
    /// Layers sent at once, per push; 0 means 5.
    pub max_concurrent_uploads: usize,
}

/// What to pull besides the reference.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// `os/arch[/variant]`; the host's own where absent.
    pub platform: Option<String>,
    /// For the registry of the reference.
    pub auth: Option<Credentials>,
}

/// What to push besides the reference.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// For the registry of the reference.
    pub auth: Option<Credentials>,
}

/// A finished pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's ID: the digest of its config.
    pub image_id: Digest,
    /// The digest of what the reference named: an index or a manifest.
    pub digest: Digest,
    /// Whether the image was here already and the name pointed at it.
    pub up_to_date: bool,
}

/// A finished push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A login the registry accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginOutcome {
    /// A refresh token to keep instead of the password, where the token service gives one.
    pub identity_token: Option<crate::Secret>,
}

/// A client for any number of registries; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    options: Arc<ClientOptions>,
}

impl Client {
    /// A client that reaches registries as `options` say. The process must have installed a
    /// `rustls` provider.
    pub fn new(options: ClientOptions) -> Result<Self> {
        Ok(Self {
            options: Arc::new(options),
        })
    }

    /// How it reaches them.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Fetches what `reference` names into `store` and points the name at it.
    pub async fn pull(
        &self,
        _store: &Store,
        reference: &Reference,
        _options: PullOptions,
        _progress: ProgressSender,
    ) -> Result<Pulled> {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("cannot pull {reference}: no registry client yet"),
        ))
    }

    /// Sends the image `image_id` to the registry and tag that `reference` names.
    pub async fn push(
        &self,
        _store: &Store,
        reference: &Reference,
        _image_id: &Digest,
        _options: PushOptions,
        _progress: ProgressSender,
    ) -> Result<Pushed> {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("cannot push {reference}: no registry client yet"),
        ))
    }

    /// Asks the registry at `host` (`host[:port]`) whether it accepts `credentials`.
    pub async fn login(&self, host: &str, _credentials: &Credentials) -> Result<LoginOutcome> {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("cannot log in to {host}: no registry client yet"),
        ))
    }
}
