//! The Docker Engine API as plain data: bodies, answers and stream records with
//! Docker's exact field names (API 1.24 to 1.50).
//!
//! Two rules hold for every type here.
//!
//! * **Reading is tolerant**: a field that is absent or `null` reads as its zero value, as
//!   Go's decoder does it, and unknown fields are ignored. Both the engine (bodies of
//!   clients) and the command line (answers of any Docker-compatible engine) read them.
//! * **Writing is exact**: what dockerd writes as `null` is an `Option` that is `None`, what
//!   it writes as `[]` or `{}` is an empty collection, and what it leaves out (`omitempty`)
//!   is skipped here too. Maps are ordered by key, as Go's encoder orders them.
//!
//! Where to begin: [`container`] (create body, inspect, list), [`image`], [`system`]
//! (version, info, events, disk usage), [`stream`] (progress records and stdio frames).

use serde::{Deserialize, Deserializer};

/// A struct of the wire: derives what every one of them has, and makes each field
/// tolerant of absence and of `null`. The caller names the case of its fields.
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty ),* $(,)?
        }
    )*) => {$(
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        $(#[$meta])*
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(default, deserialize_with = "crate::docker::nullable")]
                pub $field: $ty,
            )*
        }
    )*};
}

pub mod auth;
pub mod build;
pub mod config;
pub mod container;
pub mod exec;
pub mod image;
pub mod network;
pub mod port;
pub mod stats;
pub mod stream;
pub mod system;
pub mod volume;

pub use auth::{AuthConfig, AuthResponse, RegistryConfigs};
pub use build::BuildQuery;
pub use config::{ContainerConfig, HostConfig, Resources};
pub use container::{
    ContainerCreateBody, ContainerCreateResponse, ContainerInspect, ContainerSummary, WaitResponse,
};
pub use exec::{ExecCreateBody, ExecInspect, ExecStartBody};
pub use image::{ImageInspect, ImageSummary};
pub use network::{EndpointSettings, Network, NetworkCreateBody, NetworkingConfig};
pub use port::{PortBinding, PortMap};
pub use stream::{Frame, JsonMessage, StreamKind};
pub use system::{ErrorBody, Event, SystemInfo, VersionResponse};
pub use volume::{Volume, VolumeCreateBody};

/// The newest API version spoken.
pub const API_VERSION: &str = "1.50";
/// The oldest API version accepted in a path.
pub const MIN_API_VERSION: &str = "1.24";
/// The engine version that answers claim to be compatible with, where a client asks for
/// Docker's own version and not berth's.
pub const COMPATIBLE_WITH: &str = "28.2.2";
/// The time Docker writes for "never" (Go's zero time).
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// An object without fields, the value of Go's `map[string]struct{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Empty {}

/// Reads `null` as the zero value of the type.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Go's `omitempty`: whether a value is its type's zero value.
pub(crate) fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A list of words that may also be written as one string (Go's `strslice`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::One(word) => Words(vec![word]),
            Form::Many(words) => Words(words),
        })
    }
}

impl From<Vec<String>> for Words {
    fn from(words: Vec<String>) -> Self {
        Words(words)
    }
}
