//! Docker's Engine API over HTTP: a thin translation of requests into calls of the engine and the builder.
//!
//! Begin with [`App`] and [`serve`]. A request passes `server` (connections, limits), `origin` (no browsers),
//! `version` (the `/v1.xx` prefix), then one of `routes/`, which decodes, makes one call and encodes. This is where build
//! meets engine: `executor` runs the builder's steps in the engine.
//!
//! Knows nothing of overlays, namespaces or registries, and reads no environment.
#![forbid(unsafe_code)]

mod body;
mod credentials;
mod error;
mod executor;
mod hang_up;
mod hijack;
mod lines;
mod listen;
mod origin;
mod progress;
mod query;
mod routes;
mod server;
mod timestamp;
mod version;
mod websocket;

use berth_build::Builder;
use berth_engine::Engine;

pub use executor::EngineExecutor;
pub use listen::{ListenError, Listener};
pub use server::{Activity, serve};

/// What the routes work with; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Containers, images, volumes, networks.
    pub engine: Engine,
    /// Builds images.
    pub builder: Builder,
}

/// All routes of the API over `app`.
pub fn router(app: App) -> axum::Router {
    routes::router(app)
}
