//! `/volumes`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use berth_engine::volume;
use berth_spec::docker::volume::{VolumeList, VolumesPruned};
use berth_spec::docker::{Volume, VolumeCreateBody};
use http::StatusCode;

use crate::App;
use crate::body;
use crate::error::Reply;
use crate::query::Query;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).delete(remove))
}

async fn list(State(app): State<App>, query: Query) -> Reply<Json<VolumeList>> {
    Ok(Json(volume::list(&app.engine, query.filters()?).await?))
}

async fn create(State(app): State<App>, body: Body) -> Reply<(StatusCode, Json<Volume>)> {
    let body: VolumeCreateBody = body::json_or_default(body).await?;
    Ok((
        StatusCode::CREATED,
        Json(volume::create(&app.engine, body).await?),
    ))
}

async fn inspect(State(app): State<App>, Path(name): Path<String>) -> Reply<Json<Volume>> {
    Ok(Json(volume::inspect(&app.engine, &name).await?))
}

async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
) -> Reply<StatusCode> {
    volume::remove(&app.engine, &name, query.flag("force")).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prune(State(app): State<App>, query: Query) -> Reply<Json<VolumesPruned>> {
    Ok(Json(volume::prune(&app.engine, query.filters()?).await?))
}
