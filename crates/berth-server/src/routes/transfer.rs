//! Images on the move: pull, push, import, load, save, commit, and a registry's view of one.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use berth_build::config_change;
use berth_engine::container::{self, CommitRequest, ConfigEdit};
use berth_engine::{Error, image};
use berth_spec::Reference;
use berth_spec::docker::ContainerConfig;
use berth_spec::docker::JsonMessage;
use berth_spec::docker::container::CommitResponse;
use berth_spec::docker::image::{Descriptor, DistributionInspect, Platform};
use berth_spec::reference::ParseReferenceError;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::mpsc;

use crate::App;
use crate::error::{ApiError, Reply};
use crate::lines::Lines;
use crate::query::Query;
use crate::{body, credentials};

/// Lines a transfer may be ahead of a slow client.
const AHEAD: usize = 256;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/images/create", post(create))
        .route("/images/load", post(load))
        .route("/images/get", get(save_many))
        .route("/commit", post(commit))
        .route("/distribution/{*path}", get(distribution))
}

/// Passes what `work` tells on to the client. A failure before the first line is the answer's status, a later one the
/// last line. The work goes on when the client leaves.
async fn told<F, Fut>(work: F) -> Reply<Response>
where
    F: FnOnce(mpsc::Sender<JsonMessage>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (sender, mut messages) = mpsc::channel(AHEAD);
    let work = tokio::spawn(work(sender));
    let Some(first) = messages.recv().await else {
        ended(work.await)?;
        return Ok(Lines::open().1);
    };
    let (lines, response) = Lines::open();
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(message) = next {
            if lines.send(&message).await.is_err() {
                return;
            }
            next = messages.recv().await;
        }
        if let Err(e) = ended(work.await) {
            lines.fail(e.into_message()).await;
        }
    });
    Ok(response)
}

fn ended(work: Result<Result<(), Error>, tokio::task::JoinError>) -> Reply<()> {
    let failed = |e| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the engine failed at this: {e}"),
        )
    };
    Ok(work.map_err(failed)??)
}

/// `POST /images/create`: a pull where `fromImage` is named, an import where `fromSrc` is.
async fn create(
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Reply<Response> {
    if query.non_empty("fromImage").is_some() {
        return pull(app, &query, &headers).await;
    }
    let edit = edit(query.all("changes"));
    let source = query.text("fromSrc");
    let message = query.non_empty("message");
    let request = image::ImportRequest {
        repo: query.text("repo"),
        tag: query.text("tag"),
        message: message.unwrap_or_else(|| format!("Imported from {source}")),
        platform: query.non_empty("platform"),
        edit,
    };
    if source != "-" {
        return Err(ApiError::bad_request(format!(
            "cannot import from {source:?}: this engine takes archives from the client only: download it first, then import the file"
        )));
    }
    told(move |lines| async move {
        let id = image::import(&app.engine, request, body::reader(body)).await?;
        // A client that has left learns nothing.
        let _ = lines
            .send(JsonMessage {
                status: id,
                ..JsonMessage::default()
            })
            .await;
        Ok(())
    })
    .await
}

async fn pull(app: App, query: &Query, headers: &HeaderMap) -> Reply<Response> {
    let request = image::PullRequest {
        image: query.text("fromImage"),
        tag: query.text("tag"),
        platform: query.non_empty("platform"),
        auth: credentials::from_headers(headers)?,
    };
    told(move |lines| async move { image::pull(&app.engine, request, lines).await }).await
}

/// `POST /images/{name}/push`.
pub(super) async fn push(
    app: &App,
    name: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Reply<Response> {
    let request = image::PushRequest {
        image: name.to_owned(),
        tag: query.text("tag"),
        auth: credentials::from_headers(headers)?,
    };
    let engine = app.engine.clone();
    told(move |lines| async move { image::push(&engine, request, lines).await }).await
}

async fn load(State(app): State<App>, query: Query, body: Body) -> Reply<Response> {
    let quiet = query.flag("quiet");
    told(move |lines| async move { image::load(&app.engine, body::reader(body), quiet, lines).await }).await
}

async fn save_many(State(app): State<App>, query: Query) -> Reply<Response> {
    save(&app, query.all("names")).await
}

/// `GET /images/get` and `GET /images/{name}/get`.
pub(super) async fn save(app: &App, names: Vec<String>) -> Reply<Response> {
    let tar = image::save(&app.engine, names).await?;
    Ok((
        [(header::CONTENT_TYPE, "application/x-tar")],
        Body::from_stream(tar),
    )
        .into_response())
}

async fn commit(
    State(app): State<App>,
    query: Query,
    body: Body,
) -> Reply<(StatusCode, Json<CommitResponse>)> {
    let config: Option<ContainerConfig> = body::json_or_default(body).await?;
    let mut changes = query.all("changes");
    if let [one] = changes.as_slice() {
        // The client joins several by line feeds.
        changes = one.lines().map(str::to_owned).collect();
    }
    let request = CommitRequest {
        container: query.text("container"),
        repo: query.text("repo"),
        tag: query.text("tag"),
        comment: query.text("comment"),
        author: query.text("author"),
        pause: query.flag_or("pause", true),
        config,
        edit: edit(changes),
    };
    Ok((
        StatusCode::CREATED,
        Json(container::commit(&app.engine, request).await?),
    ))
}

/// `--change` instructions, applied by the builder's reader.
fn edit(changes: Vec<String>) -> Option<ConfigEdit> {
    if changes.is_empty() {
        return None;
    }
    Some(Box::new(move |config| {
        config_change::apply(config, &changes).map_err(|e| e.to_string())
    }))
}

/// `GET /distribution/{name}/json`: what a registry says of an image.
async fn distribution(
    State(app): State<App>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Reply<Response> {
    let auth = credentials::from_headers(&headers)?;
    let name = path.strip_suffix("/json").unwrap_or(&path);
    let reference: Reference = name
        .parse()
        .map_err(|e: ParseReferenceError| ApiError::bad_request(e.to_string()))?;
    let found = app
        .engine
        .client()
        .inspect(&reference.or_latest(), auth.as_ref())
        .await;
    let found = found.map_err(|e| ApiError::from(Error::from(e)))?;
    Ok(Json(DistributionInspect {
        descriptor: Descriptor {
            media_type: found.descriptor.media_type,
            digest: found.descriptor.digest.to_string(),
            size: i64::try_from(found.descriptor.size).unwrap_or(i64::MAX),
        },
        platforms: found.platforms.into_iter().map(platform).collect(),
    })
    .into_response())
}

fn platform(platform: berth_spec::oci::image::Platform) -> Platform {
    Platform {
        architecture: platform.architecture,
        os: platform.os,
        os_version: platform.os_version.unwrap_or_default(),
        variant: platform.variant.unwrap_or_default(),
    }
}
