//! `/images`: what is here. Names contain slashes, so what stands behind a name is split off its end.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use berth_engine::image;
use berth_spec::docker::ImageSummary;
use berth_spec::docker::image::{ImageVerified, ImagesPruned, SearchResult};
use http::{HeaderMap, StatusCode};

use super::transfer;
use crate::App;
use crate::error::{ApiError, Reply};
use crate::query::Query;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/search", get(search))
        .route("/images/prune", post(prune))
        .route("/images/verify", post(verify))
        .route("/images/{*name}", delete(remove).get(read).post(write))
}

async fn list(State(app): State<App>, query: Query) -> Reply<Json<Vec<ImageSummary>>> {
    let mut filters = query.filters()?;
    // Clients before API 1.25 ask for one name by `filter`.
    if let Some(name) = query.non_empty("filter") {
        filters = filters.with("reference", name);
    }
    let options = image::ListOptions {
        all: query.flag("all"),
        filters,
        shared_size: query.flag("shared-size"),
    };
    Ok(Json(image::list(&app.engine, options).await?))
}

async fn search(State(app): State<App>, query: Query) -> Reply<Json<Vec<SearchResult>>> {
    let limit = query
        .non_empty("limit")
        .map(|text| {
            text.parse()
                .map_err(|_| ApiError::bad_request(format!("invalid limit {text:?}")))
        })
        .transpose()?;
    let found = image::search(&app.engine, &query.text("term"), limit, query.filters()?).await?;
    Ok(Json(found))
}

async fn prune(State(app): State<App>, query: Query) -> Reply<Json<ImagesPruned>> {
    Ok(Json(image::prune(&app.engine, query.filters()?).await?))
}

async fn verify(State(app): State<App>, query: Query) -> Reply<Json<Vec<ImageVerified>>> {
    Ok(Json(image::verify(&app.engine, query.all("names")).await?))
}

async fn remove(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply<Response> {
    let removed = image::remove(
        &app.engine,
        &name,
        query.flag("force"),
        !query.flag("noprune"),
    )
    .await?;
    Ok(Json(removed).into_response())
}

/// `GET /images/{name}/{what}`.
async fn read(State(app): State<App>, Path(path): Path<String>) -> Reply<Response> {
    let (name, what) = split(&path)?;
    match what {
        "json" => Ok(Json(image::inspect(&app.engine, name).await?).into_response()),
        "history" => Ok(Json(image::history(&app.engine, name).await?).into_response()),
        "get" => transfer::save(&app, vec![name.to_owned()]).await,
        _ => Err(no_page()),
    }
}

/// `POST /images/{name}/{what}`.
async fn write(
    State(app): State<App>,
    Path(path): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Reply<Response> {
    let (name, what) = split(&path)?;
    match what {
        "tag" => {
            image::tag(&app.engine, name, &query.text("repo"), &query.text("tag")).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        "push" => transfer::push(&app, name, &query, &headers).await,
        _ => Err(no_page()),
    }
}

fn split(path: &str) -> Reply<(&str, &str)> {
    path.rsplit_once('/')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(no_page)
}

fn no_page() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "page not found")
}
