//! Volumes.

use std::collections::BTreeMap;

wire! {
    /// A volume, as listed and inspected.
    #[serde(rename_all = "PascalCase")]
    pub struct Volume {
        /// RFC 3339.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub created_at: String,
        pub driver: String,
        pub labels: Option<BTreeMap<String, String>>,
        pub mountpoint: String,
        pub name: String,
        pub options: Option<BTreeMap<String, String>>,
        pub scope: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub status: Option<BTreeMap<String, serde_json::Value>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub usage_data: Option<VolumeUsage>,
    }

    /// What a volume costs; only in `GET /system/df`.
    #[serde(rename_all = "PascalCase")]
    pub struct VolumeUsage {
        pub ref_count: i64,
        /// Bytes, -1 where unknown.
        pub size: i64,
    }

    /// Answer of `GET /volumes`.
    #[serde(rename_all = "PascalCase")]
    pub struct VolumeList {
        pub volumes: Vec<Volume>,
        pub warnings: Option<Vec<String>>,
    }

    /// Body of `POST /volumes/create`.
    #[serde(rename_all = "PascalCase")]
    pub struct VolumeCreateBody {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub name: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub driver: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub driver_opts: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub labels: BTreeMap<String, String>,
    }

    /// Answer of `POST /volumes/prune`.
    #[serde(rename_all = "PascalCase")]
    pub struct VolumesPruned {
        pub volumes_deleted: Option<Vec<String>>,
        pub space_reclaimed: u64,
    }
}
