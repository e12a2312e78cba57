//! Content, layers, snapshots and images on disk: who holds what, and what may go.
//!
//! Everything blocks; who has an executor calls from a blocking thread. Nothing here knows a network
//! protocol, a container or Docker's wire types.
//!
//! Begin with [`Store`], which hands out its parts: [`Content`] (blobs by digest), layers (by diff
//! ID), images (by the digest of their config), snapshots (writable overlays).
//!
//! What never happens: content is never visible before its digest is verified; only the collector
//! deletes content and layers; a file is never changed in place.
#![forbid(unsafe_code)]

pub mod archive;
mod budget;
mod collect;
mod compress;
mod content;
mod db;
pub mod disk;
mod durable;
mod erofs;
mod error;
pub mod hash;
mod images;
pub mod layer;
mod lease;
pub mod onlooker;
pub mod platform;
mod records;
mod room;
mod roster;
mod schema;
pub mod snapshot;
mod sources;
mod store;
pub mod tree;
mod verify;

pub use budget::Budget;
pub use collect::{Collected, Usage};
pub use content::{BlobInfo, Content, Ingest};
pub use error::{Error, ErrorKind, Result};
pub use images::{Image, Images, LAYERS_MAX, NewImage};
pub use layer::{Layer, LayerForm, LayerMounting, LayerTar, Layers, Owners};
pub use lease::Lease;
pub use records::Records;
pub use snapshot::{Change, ChangeKind, Condemned, MountOptions, RootMount, Snapshots};
pub use sources::Sources;
pub use store::{Store, StoreOptions};
pub use verify::{Damage, Part, Verified};
