//! `/networks`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use berth_engine::network;
use berth_spec::docker::Network;
use berth_spec::docker::network::{NetworkCreateResponse, NetworksPruned};
use http::StatusCode;

use crate::App;
use crate::body;
use crate::error::Reply;
use crate::query::Query;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
}

async fn list(State(app): State<App>, query: Query) -> Reply<Json<Vec<Network>>> {
    Ok(Json(network::list(&app.engine, query.filters()?).await?))
}

async fn create(
    State(app): State<App>,
    body: Body,
) -> Reply<(StatusCode, Json<NetworkCreateResponse>)> {
    let created = network::create(&app.engine, body::json(body).await?).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

async fn inspect(State(app): State<App>, Path(id): Path<String>) -> Reply<Json<Network>> {
    Ok(Json(network::inspect(&app.engine, &id).await?))
}

async fn remove(State(app): State<App>, Path(id): Path<String>) -> Reply<StatusCode> {
    network::remove(&app.engine, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn connect(State(app): State<App>, Path(id): Path<String>, body: Body) -> Reply<StatusCode> {
    network::connect(&app.engine, &id, body::json(body).await?).await?;
    Ok(StatusCode::OK)
}

async fn disconnect(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Body,
) -> Reply<StatusCode> {
    network::disconnect(&app.engine, &id, body::json(body).await?).await?;
    Ok(StatusCode::OK)
}

async fn prune(State(app): State<App>, query: Query) -> Reply<Json<NetworksPruned>> {
    Ok(Json(network::prune(&app.engine, query.filters()?).await?))
}
