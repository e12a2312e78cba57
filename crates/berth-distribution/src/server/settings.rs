//! What a registry is told: a JSON file and flags. Unknown keys are refused by name.

use std::path::PathBuf;

use serde::Deserialize;

use super::access::settings::AuthSettings;
use super::cache::CacheSettings;
use super::collect::Collection;
use super::events::audit::AuditSettings;
use super::events::webhook::Webhook;
use super::policy::{Immutable, Quota};
use super::record::PostgresSettings;
use super::retention::Retention;
use super::storage::bucket::settings::S3Settings;
use super::units::Bytes;
use crate::{ClientOptions, Error, ErrorKind, Result};

/// How a registry is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Where everything is stored.
    pub root: PathBuf,
    /// An object store that keeps the blobs, instead of the root.
    pub s3: Option<S3Settings>,
    /// A database that keeps the record, instead of the root; replicas may share it.
    pub postgres: Option<PostgresSettings>,
    /// `host:port` to listen on.
    pub address: String,
    /// Refuse every change.
    pub read_only: bool,
    /// Whether manifests, tags and blobs may be deleted.
    pub delete: bool,
    /// Accept manifests some of whose parts are not here.
    pub sparse: bool,
    /// The most that one blob may have.
    pub blob_max: Bytes,
    /// Certificates, to be reached by https.
    pub tls: Option<TlsSettings>,
    /// Users and what they may do; without it, everybody may do everything.
    pub auth: Option<AuthSettings>,
    /// Removing what nobody needs.
    pub collection: Collection,
    /// How long tags and untagged manifests stay.
    pub retention: Vec<Retention>,
    /// Tags that stay where they are.
    pub immutable: Vec<Immutable>,
    /// How much namespaces may hold.
    pub quotas: Vec<Quota>,
    /// Programs that are told what happens.
    pub webhooks: Vec<Webhook>,
    /// Other registries whose repositories are kept here.
    pub caches: Vec<CacheSettings>,
    /// How those are reached: proxies, certificates.
    #[serde(skip)]
    pub client: ClientOptions,
    /// The data root of an engine whose images are served as well.
    pub share_engine: Option<PathBuf>,
    /// A log of who did what.
    pub audit: Option<AuditSettings>,
}

/// The files that TLS needs, in PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate with its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities; with it, clients must show a certificate that one of them signed.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/berth-registry"),
            s3: None,
            postgres: None,
            address: "127.0.0.1:5000".into(),
            read_only: false,
            delete: true,
            sparse: false,
            blob_max: Bytes::new(1 << 40),
            tls: None,
            auth: None,
            collection: Collection::default(),
            retention: Vec::new(),
            immutable: Vec::new(),
            quotas: Vec::new(),
            webhooks: Vec::new(),
            caches: Vec::new(),
            client: ClientOptions::default(),
            share_engine: None,
            audit: None,
        }
    }
}

impl Settings {
    /// Reads a configuration file's text.
    pub fn parse(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text)
            .map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()).with_source(e))
    }
}
