//! The OCI distribution protocol from both ends.
//!
//! Today this is the remote client: [`pull`](Client::pull), [`push`](Client::push),
//! [`login`](Client::login), [`inspect`](Client::inspect) and [signatures](signature). It moves bytes between a registry and the content store and knows
//! nothing of overlays, containers or who asked. Begin with [`Client`].
//!
//! What a caller can rely on: content becomes visible in the store only once digest **and** size
//! match what its descriptor says, every document has a size limit, and credentials go to the
//! registry they were given for and to the token service it names, never to a plain-http realm on
//! another host.
#![forbid(unsafe_code)]

mod attestation;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod failure;
mod hosts;
mod inspect;
mod manifest;
mod members;
mod progress;
mod pull;
mod push;
mod quota;
mod registry;
mod retry;
mod search;
pub mod server;
pub mod signature;
mod tags;
mod token;

pub use attestation::Attestation;
pub use client::{
    Client, ClientOptions, Inspected, LoginOutcome, PullOptions, Pulled, PushOptions, Pushed,
};
pub use credentials::{Credentials, Secret};
pub use error::{Error, ErrorKind, Result};
pub use progress::{LayerPhase, Progress, ProgressSender};
pub use quota::Quota;
