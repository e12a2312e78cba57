//! `/containers`: everything but streams and files.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use berth_engine::container;
use berth_spec::docker::config::Resources;
use berth_spec::docker::container::{
    Change, ContainersPruned, PublishChanges, TopResponse, UpdateBody, UpdateResponse,
};
use berth_spec::docker::{
    ContainerCreateBody, ContainerCreateResponse, ContainerInspect, ContainerSummary,
};
use http::StatusCode;

use crate::App;
use crate::body;
use crate::error::Reply;
use crate::query::Query;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/containers/json", get(list))
        .route("/containers/create", post(create))
        .route("/containers/prune", post(prune))
        .route("/containers/{id}", delete(remove))
        .route("/containers/{id}/json", get(inspect))
        .route("/containers/{id}/start", post(start))
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/restart", post(restart))
        .route("/containers/{id}/kill", post(kill))
        .route("/containers/{id}/pause", post(pause))
        .route("/containers/{id}/unpause", post(unpause))
        .route("/containers/{id}/rename", post(rename))
        .route("/containers/{id}/update", post(update))
        .route("/containers/{id}/top", get(top))
        .route("/containers/{id}/changes", get(changes))
        .route("/containers/{id}/resize", post(resize))
        .route("/containers/{id}/wait", post(wait))
        .route("/containers/{id}/stats", get(stats))
}

async fn list(State(app): State<App>, query: Query) -> Reply<Json<Vec<ContainerSummary>>> {
    let options = container::ListOptions {
        all: query.flag("all"),
        limit: usize::try_from(query.number::<i64>("limit")?.unwrap_or(0)).unwrap_or(0),
        size: query.flag("size"),
        filters: query.filters()?,
    };
    Ok(Json(container::list(&app.engine, options).await?))
}

async fn create(
    State(app): State<App>,
    query: Query,
    body: Body,
) -> Reply<(StatusCode, Json<ContainerCreateResponse>)> {
    let body: ContainerCreateBody = body::json(body).await?;
    let request = container::CreateRequest {
        name: query.non_empty("name"),
        platform: query.non_empty("platform"),
        body,
    };
    Ok((
        StatusCode::CREATED,
        Json(container::create(&app.engine, request).await?),
    ))
}

async fn inspect(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Query,
) -> Reply<Json<ContainerInspect>> {
    Ok(Json(
        container::inspect(&app.engine, &id, query.flag("size")).await?,
    ))
}

async fn start(State(app): State<App>, Path(id): Path<String>) -> Reply<StatusCode> {
    container::start(&app.engine, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn stop_options(query: &Query) -> Reply<container::StopOptions> {
    Ok(container::StopOptions {
        signal: query.non_empty("signal"),
        timeout: query.number("t")?,
    })
}

/// Why a stop went otherwise than asked is told in a `Warning` header (RFC 9111 names it, docker ignores it).
async fn stop(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<Response> {
    let stopped = container::stop(&app.engine, &id, stop_options(&query)?).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(note) = stopped.note
        && let Ok(value) = format!("299 berth \"{}\"", note.replace('"', "'")).parse()
    {
        response.headers_mut().insert(http::header::WARNING, value);
    }
    Ok(response)
}

async fn restart(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Query,
) -> Reply<StatusCode> {
    container::restart(&app.engine, &id, stop_options(&query)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kill(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<StatusCode> {
    let signal = query.non_empty("signal");
    container::kill(&app.engine, &id, signal.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(State(app): State<App>, Path(id): Path<String>) -> Reply<StatusCode> {
    container::pause(&app.engine, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpause(State(app): State<App>, Path(id): Path<String>) -> Reply<StatusCode> {
    container::unpause(&app.engine, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rename(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<StatusCode> {
    container::rename(&app.engine, &id, &query.text("name")).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Body,
) -> Reply<Json<UpdateResponse>> {
    let UpdateBody { resources, ports } = body::json(body).await?;
    let only_ports = ports != PublishChanges::default() && resources == Resources::default();
    container::publish(&app.engine, &id, ports).await?;
    if only_ports {
        return Ok(Json(UpdateResponse::default()));
    }
    Ok(Json(container::update(&app.engine, &id, resources).await?))
}

async fn top(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Query,
) -> Reply<Json<TopResponse>> {
    Ok(Json(
        container::top(&app.engine, &id, &query.text("ps_args")).await?,
    ))
}

async fn changes(State(app): State<App>, Path(id): Path<String>) -> Reply<Json<Vec<Change>>> {
    Ok(Json(container::changes(&app.engine, &id).await?))
}

async fn resize(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<StatusCode> {
    let (height, width) = size(&query)?;
    container::resize(&app.engine, &id, height, width).await?;
    Ok(StatusCode::OK)
}

/// `h` and `w`, in characters.
pub(super) fn size(query: &Query) -> Reply<(u16, u16)> {
    Ok((
        query.number("h")?.unwrap_or(0),
        query.number("w")?.unwrap_or(0),
    ))
}

/// The headers leave once the wait has begun: clients start the container after they have seen them.
async fn wait(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<Response> {
    let condition = query.text("condition").parse()?;
    let waiting = container::wait(&app.engine, &id, condition).await?;
    Ok(crate::lines::late(waiting.outcome()))
}

async fn stats(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<Response> {
    let options = container::StatsOptions {
        stream: query.flag_or("stream", true),
        one_shot: query.flag("one-shot"),
    };
    Ok(crate::lines::stream(
        container::stats(&app.engine, &id, options).await?,
    ))
}

async fn remove(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<StatusCode> {
    let options = container::RemoveOptions {
        force: query.flag("force"),
        volumes: query.flag("v"),
        link: query.flag("link"),
    };
    container::remove(&app.engine, &id, options).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prune(State(app): State<App>, query: Query) -> Reply<Json<ContainersPruned>> {
    Ok(Json(container::prune(&app.engine, query.filters()?).await?))
}
