//! Images: list, inspect, history, removal, disk use, a registry's view of one.

use std::collections::BTreeMap;

use super::config::HealthConfig;
use super::container::GraphDriver;
use super::{Empty, Words};

wire! {
    /// One line of `GET /images/json`.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageSummary {
        /// Number of containers, -1 where it was not counted.
        pub containers: i64,
        /// Seconds since the epoch.
        pub created: i64,
        pub id: String,
        pub labels: Option<BTreeMap<String, String>>,
        pub parent_id: String,
        pub repo_digests: Vec<String>,
        pub repo_tags: Vec<String>,
        /// Bytes shared with other images, -1 where it was not counted.
        pub shared_size: i64,
        /// Bytes.
        pub size: i64,
    }

    /// Answer of `GET /images/{name}/json`.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageInspect {
        pub id: String,
        pub repo_tags: Vec<String>,
        pub repo_digests: Vec<String>,
        pub parent: String,
        pub comment: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub created: String,
        pub docker_version: String,
        pub author: String,
        pub config: ImageConfig,
        pub architecture: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub variant: String,
        pub os: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub os_version: String,
        /// Bytes.
        pub size: i64,
        pub graph_driver: GraphDriver,
        #[serde(rename = "RootFS")]
        pub root_fs: RootFs,
        pub metadata: ImageMetadata,
    }

    /// The configuration an image carries, as `GET /images/{name}/json` shows it since API 1.50.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageConfig {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub user: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub exposed_ports: BTreeMap<String, Empty>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub env: Vec<String>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub entrypoint: Option<Words>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub cmd: Option<Words>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub volumes: BTreeMap<String, Empty>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub working_dir: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub labels: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub stop_signal: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub args_escaped: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub on_build: Vec<String>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub shell: Option<Words>,
    }

    /// An image's layers, by diff ID from the lowest up.
    #[serde(rename_all = "PascalCase")]
    pub struct RootFs {
        #[serde(rename = "Type")]
        pub kind: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub layers: Vec<String>,
    }

    /// What this engine remembers of an image beside the image itself.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageMetadata {
        /// RFC 3339.
        pub last_tag_time: String,
    }

    /// One line of `GET /images/{name}/history`, newest first.
    #[serde(rename_all = "PascalCase")]
    pub struct HistoryEntry {
        /// An image ID, or `<missing>`.
        pub id: String,
        /// Seconds since the epoch.
        pub created: i64,
        pub created_by: String,
        pub tags: Option<Vec<String>>,
        /// Bytes.
        pub size: i64,
        pub comment: String,
    }

    /// One line of the answer of `DELETE /images/{name}`: one of the two is set.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageDeleted {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub untagged: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub deleted: String,
    }

    /// Answer of `POST /images/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct ImagesPruned {
        pub images_deleted: Option<Vec<ImageDeleted>>,
        pub space_reclaimed: u64,
    }

    /// One line of `POST /images/verify`, which is berth's own: what is on disk of an image was read
    /// and compared with its digests.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageVerified {
        /// Empty for what belongs to no image: build cache, layers of containers whose image has gone.
        pub id: String,
        pub repo_tags: Vec<String>,
        /// Layers and blobs that were looked at.
        pub layers: u64,
        pub blobs: u64,
        pub damage: Vec<ImageDamage>,
    }

    /// Something of an image that is not what it should be.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageDamage {
        /// `layer` or `blob`.
        pub kind: String,
        /// A layer's diff ID, a blob's digest.
        pub digest: String,
        /// What is wrong, in words.
        pub problem: String,
    }

    /// Body of `POST /images/signatures/verify?name=…`, which is berth's own.
    #[serde(rename_all = "PascalCase")]
    pub struct SignatureCheck {
        /// Public keys as PEM texts; those of the engine's policy where there are none.
        pub keys: Vec<String>,
    }

    /// Its answer: a signature that is good.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageSigned {
        /// What is signed: an index or a manifest.
        pub digest: String,
        /// `simple` (cosign's payload under a tag) or `bundle` (sigstore's, as a referrer).
        pub form: String,
        /// By which key: the sha256 of its bytes, base64.
        pub key: String,
    }

    /// Body of `POST /images/signatures?name=…`, which is berth's own: a signature made by the client.
    #[serde(rename_all = "PascalCase")]
    pub struct SignatureAdd {
        /// What is signed: an index or a manifest.
        pub digest: String,
        /// What was signed, base64; empty for a bundle.
        pub payload: String,
        /// The signature, base64; empty for a bundle.
        pub signature: String,
        /// A bundle, base64.
        pub bundle: String,
    }

    /// One line of `GET /images/attestations?name=…`, which is berth's own.
    #[serde(rename_all = "PascalCase")]
    pub struct ImageAttestation {
        /// `provenance`, `sbom`, `signature` or `other`.
        pub kind: String,
        /// The in-toto predicate, or the artifact's type.
        #[serde(rename = "Type")]
        pub type_name: String,
        /// What it is about.
        pub subject: String,
        /// `os/arch[/variant]` of that, where it is known.
        pub platform: String,
        /// What holds it, in the same repository.
        pub digest: String,
        /// Bytes.
        pub size: u64,
    }

    /// Answer of `GET /distribution/{name}/json`.
    #[serde(rename_all = "PascalCase")]
    pub struct DistributionInspect {
        pub descriptor: Descriptor,
        pub platforms: Vec<Platform>,
    }

    /// A content descriptor.
    #[serde(rename_all = "camelCase")]
    pub struct Descriptor {
        pub media_type: String,
        pub digest: String,
        pub size: i64,
    }

    /// A platform.
    #[serde(rename_all = "lowercase")]
    pub struct Platform {
        pub architecture: String,
        pub os: String,
        #[serde(rename = "os.version", skip_serializing_if = "crate::docker::zero")]
        pub os_version: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub variant: String,
    }

    /// One line of `GET /images/search`.
    pub struct SearchResult {
        pub star_count: i64,
        pub is_official: bool,
        pub name: String,
        pub is_automated: bool,
        pub description: String,
    }
}
