//! `POST /build`: the classic builder's stream.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use berth_build::{BuildEvent, BuildRequest, Context, Limits, StdStream, Ulimit};
use berth_engine::image;
use berth_spec::docker::auth::decode_configs;
use berth_spec::docker::build::BuildPruned;
use berth_spec::docker::stream::ImageIdAux;
use berth_spec::docker::{BuildQuery, JsonMessage};
use berth_spec::{Digest, Reference};
use http::{HeaderMap, StatusCode};
use tokio::sync::{mpsc, oneshot};

use crate::App;
use crate::body;
use crate::credentials;
use crate::error::{ApiError, Reply, with_causes};
use crate::lines::{Gone, Lines};
use crate::progress;
use crate::query::Query;

/// Events the builder may be ahead of a slow client.
const AHEAD: usize = 64;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/build", post(build))
        .route("/build/prune", post(prune))
        .route("/build/cancel", post(|| async { StatusCode::NO_CONTENT }))
}

async fn prune(State(app): State<App>, query: Query) -> Reply<axum::Json<BuildPruned>> {
    app.engine.make_way();
    let pruned = app
        .builder
        .prune(query.flag("all"))
        .await
        .map_err(refusal)?;
    Ok(axum::Json(BuildPruned {
        caches_deleted: Some(pruned.ids),
        space_reclaimed: pruned.bytes,
    }))
}

async fn build(
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Reply<Response> {
    let options =
        BuildQuery::from_pairs(query.pairs()).map_err(|e| ApiError::bad_request(e.to_string()))?;
    if options.version == "2" {
        return Err(ApiError::bad_request(
            "this engine builds with the classic builder so far: set DOCKER_BUILDKIT=0",
        ));
    }
    // Names are checked before anything is built.
    let tags: Vec<Reference> = options
        .tags
        .iter()
        .map(|tag| tag.parse::<Reference>().map(Reference::or_latest))
        .collect::<Result<_, _>>()
        .map_err(|e| ApiError::bad_request(e.to_string()))?;
    let request = request(&options, &headers)?;
    let context = if options.remote.is_empty() || options.remote == "client-session" {
        Context::Tar(Box::new(body::reader(body)))
    } else {
        Context::Remote(options.remote.clone())
    };
    let (lines, response) = Lines::open();
    let (begun, has_begun) = oneshot::channel();
    tokio::spawn(
        async move { run(app, options.quiet, tags, request, context, lines, begun).await },
    );
    // The status waits for the first step: a Dockerfile that makes no sense is a bad request.
    match has_begun.await {
        Ok(Err(refused)) => Err(refused),
        _ => Ok(response),
    }
}

/// Builds, tells, tags. The client hanging up drops the build, which cancels it.
async fn run(
    app: App,
    quiet: bool,
    tags: Vec<Reference>,
    request: BuildRequest,
    context: Context,
    lines: Lines,
    begun: oneshot::Sender<Reply<()>>,
) {
    let (sender, mut events) = mpsc::channel(AHEAD);
    let mut kept = String::new();
    let mut begun = Some(begun);
    let told = async {
        while let Some(event) = events.recv().await {
            if let Some(begun) = begun.take() {
                // Nobody listens when the client has gone.
                let _ = begun.send(Ok(()));
            }
            if tell(&lines, event, quiet, &mut kept).await.is_err() {
                return Err(Gone);
            }
        }
        Ok(())
    };
    let both = async { tokio::join!(app.builder.build(request, context, sender), told) };
    let (built, told) = tokio::select! {
        both = both => both,
        () = lines.closed() => return,
    };
    if told.is_err() {
        return;
    }
    let image = match built {
        Ok(built) => built.image_id,
        Err(e) => {
            if let Some(begun) = begun.take() {
                // As above.
                let _ = begun.send(Err(refusal(e)));
                return;
            }
            if quiet {
                // What was kept back tells why.
                let _ = lines.send(&JsonMessage::stream(kept)).await;
            }
            let code = e.exit_code().map_or(0, i64::from);
            // The client may be gone; the build has ended in any case.
            let _ = lines
                .send(&JsonMessage::error_code(code, with_causes(&e)))
                .await;
            return;
        }
    };
    finish(&app, quiet, tags, &image, &lines).await;
}

async fn finish(app: &App, quiet: bool, tags: Vec<Reference>, image: &Digest, lines: &Lines) {
    for tag in &tags {
        let name = tag.familiar_name();
        if let Err(e) = image::tag(
            &app.engine,
            image.as_str(),
            &name,
            tag.tag().unwrap_or_default(),
        )
        .await
        {
            return lines.fail(with_causes(&e)).await;
        }
        if !quiet {
            let text = format!("Successfully tagged {}\n", tag.familiar());
            if lines.send(&JsonMessage::stream(text)).await.is_err() {
                return;
            }
        }
    }
    if quiet {
        // A client that has gone misses nothing but this line.
        let _ = lines.send(&JsonMessage::stream(format!("{image}\n"))).await;
    }
}

async fn tell(
    lines: &Lines,
    event: BuildEvent,
    quiet: bool,
    kept: &mut String,
) -> Result<(), Gone> {
    /// Bytes of a quiet build's output that are kept for the case that it fails.
    const KEPT_MAX: usize = 1 << 20;
    let message = match event {
        BuildEvent::Text(text) => JsonMessage::stream(text),
        BuildEvent::Output { stream, bytes } => {
            let text = String::from_utf8_lossy(&bytes);
            JsonMessage::stream(match stream {
                StdStream::Stdout => text.into_owned(),
                StdStream::Stderr => format!("\u{1b}[91m{text}\u{1b}[0m"),
            })
        }
        BuildEvent::Warning(text) => JsonMessage::stream(format!("\u{1b}[91m{text}\n\u{1b}[0m")),
        BuildEvent::Pull(step) => {
            return match progress::message(step) {
                Some(message) if !quiet => lines.send(&message).await,
                _ => Ok(()),
            };
        }
        BuildEvent::Aux(id) => {
            let aux = ImageIdAux { id: id.to_string() };
            // A struct of one string: writing it cannot fail.
            return lines
                .send(&JsonMessage::aux(
                    serde_json::to_value(aux).unwrap_or_default(),
                ))
                .await;
        }
    };
    if quiet {
        if kept.len() + message.stream.len() <= KEPT_MAX {
            kept.push_str(&message.stream);
        }
        return Ok(());
    }
    lines.send(&message).await
}

fn request(options: &BuildQuery, headers: &HeaderMap) -> Reply<BuildRequest> {
    let configs = headers
        .get("X-Registry-Config")
        .map(|value| decode_configs(value.to_str().unwrap_or_default()))
        .transpose()
        .map_err(|e| ApiError::bad_request(e.to_string()))?
        .unwrap_or_default();
    let negative = |name: &str| {
        ApiError::bad_request(format!(
            "invalid value of build option {name}: it is negative"
        ))
    };
    Ok(BuildRequest {
        dockerfile: options.dockerfile.clone(),
        target: options.target.clone(),
        build_args: options.build_args.clone(),
        labels: options.labels.clone(),
        no_cache: options.no_cache,
        pull: options.pull,
        remove: options.rm,
        force_remove: options.force_rm,
        network: options.network_mode.clone(),
        extra_hosts: options.extra_hosts.clone(),
        limits: Limits {
            memory: options.memory,
            memory_swap: options.memory_swap,
            cpu_shares: options.cpu_shares,
            cpu_period: options.cpu_period,
            cpu_quota: options.cpu_quota,
            cpuset_cpus: options.cpuset_cpus.clone(),
            cpuset_mems: options.cpuset_mems.clone(),
            cgroup_parent: options.cgroup_parent.clone(),
        },
        ulimits: options
            .ulimits
            .iter()
            .map(|u| Ulimit {
                name: u.name.clone(),
                soft: u.soft,
                hard: u.hard,
            })
            .collect(),
        shm_size: u64::try_from(options.shm_size).map_err(|_| negative("shmsize"))?,
        platform: options.platform.clone(),
        cache_from: options.cache_from.clone(),
        squash: options.squash,
        security_opt: options.security_opt.clone(),
        credentials: configs
            .into_iter()
            .map(|(host, auth)| (host, credentials::from_config(auth)))
            .collect(),
        ..BuildRequest::default()
    })
}

pub(super) fn refusal(error: berth_build::Error) -> ApiError {
    use berth_build::ErrorKind as Kind;
    let status = match error.kind() {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, with_causes(&error))
}
