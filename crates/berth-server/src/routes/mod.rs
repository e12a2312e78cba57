//! One file per subject of the API. A route decodes, makes one call, encodes.

pub mod archive;
pub mod attach;
pub mod build;
pub mod container;
pub mod exec;
pub mod image;
pub mod network;
pub mod signature;
pub mod swarm;
pub mod system;
pub mod transfer;
pub mod volume;

use axum::Router;
use axum::response::IntoResponse;
use http::StatusCode;

use crate::App;
use crate::error::ApiError;

/// All routes, without version prefix.
pub fn router(app: App) -> Router {
    Router::new()
        .merge(system::routes())
        .merge(container::routes())
        .merge(attach::routes())
        .merge(archive::routes())
        .merge(exec::routes())
        .merge(image::routes())
        .merge(signature::routes())
        .merge(transfer::routes())
        .merge(build::routes())
        .merge(volume::routes())
        .merge(network::routes())
        .merge(swarm::routes())
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "page not found") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed").into_response()
        })
        .with_state(app)
}
