//! `/exec` and `/containers/{id}/exec`: further processes.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use berth_engine::exec;
use berth_spec::docker::exec::ExecCreateResponse;
use berth_spec::docker::{ExecInspect, ExecStartBody};
use http::{Request, StatusCode};

use super::container::size;
use crate::App;
use crate::body;
use crate::error::Reply;
use crate::hijack::Hijack;
use crate::query::Query;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Body,
) -> Reply<(StatusCode, Json<ExecCreateResponse>)> {
    let created = exec::create(&app.engine, &id, body::json(body).await?).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// The options are the body; the connection then carries the streams. The body has a length, so what
/// follows it on the connection is standard input.
async fn start(
    State(app): State<App>,
    Path(id): Path<String>,
    mut request: Request<Body>,
) -> Reply<Response> {
    let options: ExecStartBody = body::json_or_default(std::mem::take(request.body_mut())).await?;
    Ok(match exec::start(&app.engine, &id, options).await? {
        Some(session) => Hijack::new(request).answer(session),
        None => StatusCode::OK.into_response(),
    })
}

async fn resize(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<StatusCode> {
    let (height, width) = size(&query)?;
    exec::resize(&app.engine, &id, height, width).await?;
    Ok(StatusCode::OK)
}

async fn inspect(State(app): State<App>, Path(id): Path<String>) -> Reply<Json<ExecInspect>> {
    Ok(Json(exec::inspect(&app.engine, &id).await?))
}
