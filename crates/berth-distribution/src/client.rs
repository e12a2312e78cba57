//! The remote client: what it is told, what it answers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use berth_spec::docker::image::SearchResult;
use berth_spec::oci::image::{Descriptor, Platform};
use berth_spec::{Digest, Reference};
use berth_store::Store;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::quota::{Quota, Quotas};
use crate::registry::Registry;
use crate::retry::Retry;
use crate::signature::{self, NewSignature, Policies, PublicKey, Rule, Signed};
use crate::{
    Attestation, Credentials, Error, ErrorKind, ProgressSender, Result, attestation, inspect,
    manifest, pull, push, search, tags,
};

/// How registries are reached. Nothing here is read from the environment: the daemon passes it in.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Base URLs asked before Docker Hub itself, in order (`--registry-mirror`).
    pub mirrors: Vec<String>,
    /// Base URLs asked before the registry, by what a name begins with (`quay.io`,
    /// `docker.io/library`): the longest such prefix decides. What follows the prefix follows the
    /// path of the URL.
    pub prefix_mirrors: Vec<(String, Vec<String>)>,
    /// Hosts (`host[:port]`) or networks (CIDR) that may be spoken to without TLS or with an
    /// unknown certificate (`--insecure-registry`). Where none is given, loopback may.
    pub insecure_registries: Vec<String>,
    /// Where `<host>/hosts.toml` (containerd's) and `<host>/{*.crt,client.cert,client.key}` are
    /// looked for, e.g. `/etc/docker/certs.d`.
    pub certs_dirs: Vec<PathBuf>,
    /// Proxy for http URLs, as `HTTP_PROXY` would say it.
    pub http_proxy: Option<String>,
    /// Proxy for https URLs.
    pub https_proxy: Option<String>,
    /// Hosts that need no proxy, comma separated.
    pub no_proxy: Option<String>,
    /// `User-Agent`.
    pub user_agent: String,
    /// Layers fetched at once, by all pulls together; 0 means 3.
    pub max_concurrent_downloads: usize,
    /// Layers sent at once, by all pushes together; 0 means 5.
    pub max_concurrent_uploads: usize,
    /// Whose signature a pull wants.
    pub signatures: Policies,
    /// The pause before what failed is tried again; doubled each time. Half a second where absent.
    pub retry_pause: Option<Duration>,
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

/// What a registry has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The index or manifest.
    pub descriptor: Descriptor,
    /// The platforms that it has images for.
    pub platforms: Vec<Platform>,
}

/// A client for any number of registries; cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.shared.options).finish()
    }
}

/// What all transfers of a client share.
pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    pub(crate) retry: Retry,
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    /// What registries said about how much may still be pulled.
    pub(crate) quotas: Quotas,
    /// Layers that are being fetched, by diff ID.
    turns: Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>,
}

impl Shared {
    /// What to lock while fetching the layer `diff_id`.
    pub(crate) fn turn(&self, diff_id: &Digest) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(diff_id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(diff_id.clone(), Arc::downgrade(&turn));
        turn
    }
}

impl Client {
    /// A client that reaches registries as `options` say. The process must have installed a
    /// `rustls` provider.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let at_once =
            |n: usize, default| Arc::new(Semaphore::new(if n == 0 { default } else { n }));
        let mut retry = Retry::default();
        retry.pause = options.retry_pause.unwrap_or(retry.pause);
        Ok(Self {
            shared: Arc::new(Shared {
                retry,
                downloads: at_once(options.max_concurrent_downloads, 3),
                uploads: at_once(options.max_concurrent_uploads, 5),
                quotas: Quotas::default(),
                turns: Mutex::default(),
                options,
            }),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How it reaches them.
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// What registries last said about how much may still be pulled from them.
    pub fn quotas(&self) -> Vec<Quota> {
        self.shared.quotas.list()
    }

    /// Fetches what `reference` names into `store` and points the name at it. The lines that Docker
    /// prints (`Pulling from …`, `Digest: …`, `Status: …`) come as progress.
    pub async fn pull(
        &self,
        store: &Store,
        reference: &Reference,
        options: PullOptions,
        progress: ProgressSender,
    ) -> Result<Pulled> {
        pull::pull(&self.shared, store, reference, options, progress).await
    }

    /// Sends the image `image_id` to the registry and tag that `reference` names. The lines that
    /// Docker prints (`LAYER: Pushed`, `TAG: digest: … size: …`) come as progress, but for the first, which
    /// stands once for all tags.
    pub async fn push(
        &self,
        store: &Store,
        reference: &Reference,
        image_id: &Digest,
        options: PushOptions,
        progress: ProgressSender,
    ) -> Result<Pushed> {
        push::push(&self.shared, store, reference, image_id, options, progress).await
    }

    /// Asks the registry at `host` (`host[:port]`, or a URL of it) whether it accepts `credentials`.
    pub async fn login(&self, host: &str, credentials: &Credentials) -> Result<LoginOutcome> {
        let host = registry_host(host);
        let registry = Registry::of_host(&self.shared, host, Some(credentials)).await?;
        let identity_token = registry.login().await?;
        Ok(LoginOutcome { identity_token })
    }

    /// Looks for repositories: `host/words` in the index of `host`, other words in the Hub's. No more
    /// than `limit` are asked for.
    pub async fn search(&self, term: &str, limit: u32) -> Result<Vec<SearchResult>> {
        search::search(&self.shared, term, limit).await
    }

    /// Asks a registry what it has under `reference`, and fetches no more than manifests.
    pub async fn inspect(
        &self,
        reference: &Reference,
        auth: Option<&Credentials>,
    ) -> Result<Inspected> {
        inspect::inspect(&self.shared, reference, auth).await
    }

    /// Looks for a signature of what `reference` names by one of `keys`, or by one of those that the
    /// policy wants for it.
    ///
    /// # Errors
    /// `Invalid` where there is none.
    pub async fn verify_signature(
        &self,
        reference: &Reference,
        keys: Option<&[PublicKey]>,
        auth: Option<&Credentials>,
    ) -> Result<Signed> {
        let reference = reference.clone().or_latest();
        let keys = match (keys, self.shared.options.signatures.of(&reference)) {
            (Some(keys), _) => keys,
            (None, Rule::Signed(keys)) => keys,
            (None, _) => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "no key is given, and the policy names none for {}",
                        reference.familiar()
                    ),
                ));
            }
        };
        let registry = Registry::resolving(&self.shared, &reference, auth).await?;
        let name = registry.name(&reference);
        let digest = match name.digest() {
            Some(digest) => digest.clone(),
            None => {
                let target = manifest::target(name);
                manifest::fetch(&registry, name, &target, None)
                    .await?
                    .digest
            }
        };
        signature::verify(&registry, name, &digest, keys).await
    }

    /// Puts a signature of `digest` beside the image, in the repository of `reference`.
    pub async fn attach_signature(
        &self,
        reference: &Reference,
        digest: &Digest,
        new: &NewSignature,
        auth: Option<&Credentials>,
    ) -> Result<()> {
        let registry = Registry::pushing(&self.shared, reference, auth).await?;
        signature::attach(&registry, reference, digest, new).await
    }

    /// What is stated about an image beside it in its registry: provenance, SBOM, signatures.
    pub async fn attestations(
        &self,
        reference: &Reference,
        auth: Option<&Credentials>,
    ) -> Result<Vec<Attestation>> {
        attestation::list(&self.shared, reference, auth).await
    }

    /// The tags of the repository that `reference` names, sorted.
    pub async fn tags(
        &self,
        reference: &Reference,
        auth: Option<&Credentials>,
    ) -> Result<Vec<String>> {
        tags::tags(&self.shared, reference, auth).await
    }
}

/// The host of a login's server address: `https://index.docker.io/v1/` is Docker Hub's of old.
fn registry_host(address: &str) -> &str {
    let host = address
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "" | "docker.io" | "index.docker.io" => berth_spec::reference::DEFAULT_REGISTRY,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_addresses_are_hosts() {
        for (address, host) in [
            ("", "registry-1.docker.io"),
            ("https://index.docker.io/v1/", "registry-1.docker.io"),
            ("docker.io", "registry-1.docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://reg.example/v2/", "reg.example"),
        ] {
            assert_eq!(registry_host(address), host);
        }
    }
}
