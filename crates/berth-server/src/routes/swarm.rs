//! Swarm's routes, for clients that probe them: this engine is in no swarm.

use axum::Router;
use axum::routing::any;
use http::StatusCode;

use crate::App;
use crate::error::ApiError;

const TEXT: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

pub fn routes() -> Router<App> {
    let mut router = Router::new();
    for path in [
        "/swarm",
        "/nodes",
        "/services",
        "/tasks",
        "/secrets",
        "/configs",
    ] {
        router = router
            .route(path, any(refuse))
            .route(&format!("{path}/{{*rest}}"), any(refuse));
    }
    router.route(
        "/plugins",
        axum::routing::get(|| async { axum::Json(Vec::<()>::new()) }),
    )
}

async fn refuse() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, TEXT)
}
