//! Containers, images, volumes and networks, and their lives: what the verbs of a container engine do.
//!
//! [`Engine`] bundles the services and is cheap to clone; each verb is a free async function in the
//! module of its object: [`container::start`], [`image::pull`], [`volume::create`] … A verb takes
//! what a client asked for, as data of `berth_spec::docker`, and answers with the same vocabulary;
//! nothing here knows HTTP.
//!
//! What never happens: a verb that failed leaves nothing but what its record tells of; the end of
//! the engine ends no container; no lock is held across an await but the per-container key.
//!
//! Where to begin: [`Engine::open`], then `container/start.rs`; `container/plan` (pure: what was
//! asked becomes an OCI document) and `container/state.rs` (pure: the life of a container).
#![forbid(unsafe_code)]

pub mod container;
mod crossing;
mod db;
mod engine;
mod error;
mod event;
pub mod exec;
pub mod filters;
mod ids;
pub mod image;
pub mod network;
mod pipe;
mod random;
mod readiness;
mod recovery;
mod reserve;
pub mod session;
pub mod step;
pub mod system;
mod task;
mod time;
mod undo;
pub mod volume;

pub use berth_runtime::task::RuntimeProgram;
pub use engine::{Engine, EngineOptions};
pub use error::{Error, ErrorKind, Result};
pub use filters::Filters;
pub use ids::{IdMaps, IdRange};
pub use session::{ByteStream, Session};
