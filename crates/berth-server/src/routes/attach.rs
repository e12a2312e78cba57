//! Streams of a container: attach (by hijack and by WebSocket) and logs.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use berth_engine::container;
use berth_spec::docker::stream::{MULTIPLEXED_STREAM, RAW_STREAM};
use http::{Request, header};

use crate::App;
use crate::error::{ApiError, Reply};
use crate::hijack::Hijack;
use crate::query::Query;
use crate::{timestamp, websocket};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/containers/{id}/attach", post(attach))
        .route("/containers/{id}/attach/ws", get(attach_websocket))
        .route("/containers/{id}/logs", get(logs))
}

fn options(query: &Query) -> container::AttachOptions {
    container::AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        detach_keys: query.text("detachKeys"),
    }
}

async fn attach(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Query,
    request: Request<Body>,
) -> Reply<Response> {
    let session = container::attach(&app.engine, &id, options(&query)).await?;
    Ok(Hijack::new(request).answer(session))
}

async fn attach_websocket(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Query,
    upgrade: WebSocketUpgrade,
) -> Reply<Response> {
    let session = container::attach(&app.engine, &id, options(&query)).await?;
    Ok(upgrade.on_upgrade(move |socket| websocket::serve(socket, session)))
}

async fn logs(State(app): State<App>, Path(id): Path<String>, query: Query) -> Reply<Response> {
    let options = container::LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        since: timestamp::optional(&query, "since")?,
        until: timestamp::optional(&query, "until")?,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        // `all` and whatever is no number mean everything, as for dockerd.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::bad_request(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let logs = container::logs(&app.engine, &id, options).await?;
    let kind = if logs.tty {
        RAW_STREAM
    } else {
        MULTIPLEXED_STREAM
    };
    Ok((
        [(header::CONTENT_TYPE, kind)],
        Body::from_stream(logs.stream),
    )
        .into_response())
}
