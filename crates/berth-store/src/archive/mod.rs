//! Images as one tar: what `save` writes and `load` reads.
//!
//! [`save()`] writes both of today's forms into one archive, as Docker does since 25: an OCI image
//! layout, and a `manifest.json` beside it. Equal content gives equal bytes.
//!
//! ```text
//! blobs/sha256/<hex>   layers (plain tars), configs, manifests
//! index.json           one manifest per name
//! manifest.json        Docker's list: config, names, layers
//! oci-layout
//! repositories         the names once more, for readers of old
//! ```
//!
//! [`load()`] reads that, Docker's older form (`<id>/layer.tar`, links between equal layers) and OCI
//! layouts of others, whatever the whole is compressed with, as a stream: members may come in any
//! order. Names in an archive are keys and nothing else: no file is ever made under one.

mod contents;
mod import;
mod load;
mod save;

use berth_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};

pub use import::import_root;
pub use load::load;
pub use save::save;

/// An image to save, and the names to save it under.
#[derive(Debug, Clone)]
pub struct SaveItem {
    pub image: Digest,
    /// `name:tag` each.
    pub names: Vec<Reference>,
}

/// What happens while an archive is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadEvent {
    /// A layer is being read; sizes are bytes as they stand in the archive.
    Layer {
        /// Twelve characters that tell layers apart.
        id: String,
        current: u64,
        total: u64,
    },
    /// An image is here now.
    Loaded(Loaded),
}

/// An image that an archive brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub image: Digest,
    /// The names that now point at it.
    pub names: Vec<Reference>,
}

/// One image in `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_sources: Option<std::collections::BTreeMap<Digest, berth_spec::oci::image::Descriptor>>,
}

/// `manifest.json` of an archive.
const DOCKER_MANIFEST: &str = "manifest.json";
/// `index.json` of an OCI layout.
const OCI_INDEX: &str = "index.json";
/// The annotation with a whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// The annotation with a tag, or with a whole name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
