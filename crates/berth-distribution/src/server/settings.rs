//! What a registry is told: a JSON file and flags. Unknown keys are refused by name.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{Error, ErrorKind, Result};

/// How a registry is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Where everything is stored.
    pub root: PathBuf,
    /// `host:port` to listen on.
    pub address: String,
    /// Refuse every change.
    pub read_only: bool,
    /// Whether manifests, tags and blobs may be deleted.
    pub delete: bool,
    /// Accept indexes some of whose manifests are not here.
    pub sparse_indexes: bool,
    /// Bytes that one blob may have.
    pub blob_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/berth-registry"),
            address: "127.0.0.1:5000".into(),
            read_only: false,
            delete: true,
            sparse_indexes: false,
            blob_max: 1 << 40,
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
