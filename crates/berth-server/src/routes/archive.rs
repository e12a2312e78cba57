//! Files of a container: `cp` and `export`.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use berth_engine::container;
use berth_spec::docker::container::PathStat;
use http::{HeaderName, StatusCode, header};

use crate::App;
use crate::body;
use crate::error::{ApiError, Reply};
use crate::query::Query;

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
const TAR: &str = "application/x-tar";

pub fn routes() -> Router<App> {
    Router::new()
        .route(
            "/containers/{id}/archive",
            get(copy_out).head(stat).put(copy_in),
        )
        .route("/containers/{id}/export", get(export))
}

fn path(query: &Query) -> Reply<String> {
    query
        .non_empty("path")
        .ok_or_else(|| ApiError::bad_request("bad parameter: path cannot be empty"))
}

fn header_value(stat: &PathStat) -> String {
    // A struct of strings and numbers: writing it cannot fail.
    data_encoding::BASE64.encode(&serde_json::to_vec(stat).unwrap_or_default())
}

async fn stat(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<Response> {
    let stat = container::stat_path(&app.engine, &id, &path(&query)?).await?;
    Ok(([(STAT, header_value(&stat))], StatusCode::OK).into_response())
}

async fn copy_out(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<Response> {
    let (stat, tar) = container::copy_out(&app.engine, &id, &path(&query)?).await?;
    let headers = [
        (STAT, header_value(&stat)),
        (header::CONTENT_TYPE, TAR.to_owned()),
    ];
    Ok((headers, Body::from_stream(tar)).into_response())
}

async fn copy_in(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Query,
    body: Body,
) -> Reply<StatusCode> {
    let options = container::CopyInOptions {
        no_overwrite_dir_non_dir: query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: query.flag("copyUIDGID"),
    };
    container::copy_in(
        &app.engine,
        &id,
        &path(&query)?,
        options,
        body::reader(body),
    )
    .await?;
    Ok(StatusCode::OK)
}

async fn export(State(app): State<App>, Path(id): Path<String>) -> Reply<Response> {
    let tar = container::export(&app.engine, &id).await?;
    Ok(([(header::CONTENT_TYPE, TAR)], Body::from_stream(tar)).into_response())
}
