//! The engine itself: ping, version, info, events, disk usage, login.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use berth_engine::system;
use berth_spec::docker::system::{BuildCacheRecord, DiskUsage};
use berth_spec::docker::{AuthResponse, SystemInfo, VersionResponse};
use http::header;

use crate::App;
use crate::error::Reply;
use crate::query::Query;
use crate::routes::build;
use crate::{body, lines, timestamp};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/_ping", get(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/events", get(events))
        .route("/system/df", get(df))
        .route("/auth", post(auth))
}

/// A `GET` route answers `HEAD` as well, without the body.
async fn ping() -> Response {
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
        (
            header::CACHE_CONTROL.as_str(),
            "no-cache, no-store, must-revalidate",
        ),
        (header::PRAGMA.as_str(), "no-cache"),
        ("builder-version", "1"),
        ("swarm", "inactive"),
    ];
    (headers, "OK").into_response()
}

async fn version(State(app): State<App>) -> Reply<Json<VersionResponse>> {
    Ok(Json(system::version(&app.engine).await?))
}

async fn info(State(app): State<App>) -> Reply<Json<SystemInfo>> {
    Ok(Json(system::info(&app.engine).await?))
}

async fn events(State(app): State<App>, query: Query) -> Reply<Response> {
    let options = system::EventsOptions {
        since: timestamp::given(&query, "since")?,
        until: timestamp::given(&query, "until")?,
        filters: query.filters()?,
    };
    Ok(lines::stream(system::events(&app.engine, options).await?))
}

async fn df(State(app): State<App>) -> Reply<Json<DiskUsage>> {
    let mut usage = system::df(&app.engine).await?;
    let records = app.builder.usage().await.map_err(build::refusal)?;
    usage.build_cache = records.into_iter().map(cache_record).collect();
    Ok(Json(usage))
}

fn cache_record(record: berth_build::CacheRecord) -> BuildCacheRecord {
    BuildCacheRecord {
        id: record.id,
        kind: record.kind.into(),
        in_use: record.in_use,
        description: record.description,
        shared: record.shared,
        size: i64::try_from(record.size).unwrap_or(i64::MAX),
        created_at: record.created,
        ..BuildCacheRecord::default()
    }
}

async fn auth(State(app): State<App>, body: Body) -> Reply<Json<AuthResponse>> {
    Ok(Json(
        system::auth(&app.engine, body::json(body).await?).await?,
    ))
}
