//! Every format berth speaks, as plain data: digests, references, OCI images and runtime bundles,
//! the Docker Engine API, units and durations.
//!
//! Knows no kernel, no disk and no network: nothing here does I/O. A value that exists is valid;
//! text from outside becomes one of these types once, at the edge.
//!
//! Begin with [`digest::Digest`] and [`reference::Reference`]; [`oci`] holds the OCI documents and
//! [`docker`] the bodies of the Engine API.
#![forbid(unsafe_code)]

pub mod digest;
pub mod docker;
pub mod id;
pub mod oci;
pub mod reference;

pub use digest::Digest;
pub use reference::Reference;
