//! Where the bucket is and how it is reached.

use std::path::PathBuf;

use serde::Deserialize;

use crate::Secret;
use crate::server::units::{Bytes, Span};

/// An S3-compatible object store that keeps the blobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct S3Settings {
    /// The bucket, which is there already.
    pub bucket: String,
    /// `https://host[:port]`; Amazon's of the region where absent.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Its region; many other stores want `us-east-1`.
    #[serde(default = "region")]
    pub region: String,
    /// What the names of objects begin with.
    #[serde(default)]
    pub prefix: String,
    /// Who asks.
    pub access_key: String,
    /// The key's secret.
    #[serde(default)]
    pub secret_key: Secret,
    /// A file with the secret, instead.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// Of temporary credentials.
    #[serde(default)]
    pub session_token: Secret,
    /// Whether the bucket stands in the path rather than before the host. By default it does with an
    /// `endpoint`.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Send clients to the store for a blob, with a signed address, instead of its bytes.
    #[serde(default = "yes")]
    pub redirect: bool,
    /// How clients reach the store, where that is not `endpoint`.
    #[serde(default)]
    pub public_endpoint: Option<String>,
    /// How long a signed address is good for.
    #[serde(default = "lifetime")]
    pub redirect_lifetime: Span,
    /// Bytes of a part: 5 MiB at least. A blob has 10,000 parts at most, an upload holds two in
    /// memory.
    #[serde(default = "part")]
    pub part_size: Bytes,
    /// A PEM file of the authorities that may have signed the store's certificate; the system's where
    /// absent.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn region() -> String {
    "us-east-1".into()
}

fn yes() -> bool {
    true
}

fn lifetime() -> Span {
    Span::from_secs(20 * 60)
}

fn part() -> Bytes {
    Bytes::new(8 << 20)
}
