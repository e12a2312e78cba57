//! A registry with one image in it that behaves as it is told: badly, mostly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use berth_spec::Digest;
use berth_spec::oci::image::{Descriptor, Manifest, media_type};
use berth_store::hash::sha256;
use futures_util::StreamExt;

/// What the registry does.
#[derive(Default)]
pub struct Quirks {
    /// Manifests by tag or digest, with their media type.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    pub blobs: HashMap<Digest, Vec<u8>>,
    /// `WWW-Authenticate` for who shows no `Authorization`.
    pub challenge: Option<String>,
    /// What `Authorization` must be.
    pub authorization: Option<String>,
    /// Answered by `/token`, with what it must be asked by.
    pub token: Option<String>,
    /// The form that the token was asked for with.
    pub token_form: Vec<u8>,
    /// Where blobs are redirected to.
    pub blobs_elsewhere: Option<String>,
    /// The connection that carries this blob breaks after so many bytes, so often.
    pub breaks: Option<(Digest, usize, usize)>,
    /// A blob whose line has broken is gone.
    pub vanish: bool,
    /// This blob is not there for who has asked for it so often.
    pub vanish_after: Option<(Digest, usize)>,
    /// Whether ranges are honoured.
    pub ranges: bool,
    /// What manifests say of how much may still be pulled.
    pub ratelimit: Option<(String, String)>,
    /// Manifests answer 503 this often.
    pub unavailable: usize,
    /// Blobs are taken in by PATCH only.
    pub chunks_only: bool,
    /// Bytes of an open upload.
    pub upload: Vec<u8>,
    /// Requests as they came: method, path with query, `Authorization`, `Range`.
    pub seen: Vec<(Method, String, Option<String>, Option<String>)>,
}

/// A running registry; gone when dropped.
pub struct Quirky {
    pub quirks: Arc<Mutex<Quirks>>,
    host: String,
    server: tokio::task::JoinHandle<()>,
}

impl Quirky {
    pub async fn start(quirks: Quirks) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let quirks = Arc::new(Mutex::new(quirks));
        let router = Router::new().fallback(answer).with_state(quirks.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            quirks,
            host,
            server,
        }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn set(&self, change: impl FnOnce(&mut Quirks)) {
        change(&mut self.quirks.lock().unwrap());
    }

    /// Requests whose path holds `part`.
    pub fn seen(&self, part: &str) -> Vec<(Method, String, Option<String>, Option<String>)> {
        let quirks = self.quirks.lock().unwrap();
        quirks
            .seen
            .iter()
            .filter(|(_, path, ..)| path.contains(part))
            .cloned()
            .collect()
    }
}

impl Drop for Quirky {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Quirks {
    /// With an image of one layer under `latest`; returns its config's and layer's digests too.
    pub fn with_image(tar: &[u8]) -> (Self, Digest, Digest) {
        let config = crate::bench::config(&[sha256(tar)]);
        let layer = tar.to_vec();
        let (config_digest, layer_digest) = (sha256(&config), sha256(&layer));
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(
                media_type::OCI_CONFIG,
                config_digest.clone(),
                config.len() as u64,
            ),
            layers: vec![Descriptor::new(
                media_type::OCI_LAYER,
                layer_digest.clone(),
                layer.len() as u64,
            )],
            subject: None,
            annotations: None,
        };
        let mut quirks = Self {
            ranges: true,
            ..Self::default()
        };
        quirks.put_manifest(
            "latest",
            media_type::OCI_MANIFEST,
            serde_json::to_vec(&manifest).unwrap(),
        );
        quirks.blobs = HashMap::from([
            (config_digest.clone(), config),
            (layer_digest.clone(), layer),
        ]);
        (quirks, config_digest, layer_digest)
    }

    pub fn put_manifest(&mut self, tag: &str, kind: &str, bytes: Vec<u8>) {
        let entry = (kind.to_owned(), bytes);
        self.manifests
            .insert(sha256(&entry.1).to_string(), entry.clone());
        self.manifests.insert(tag.to_owned(), entry);
    }
}

async fn answer(State(quirks): State<Arc<Mutex<Quirks>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let header = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    let path = parts.uri.to_string();
    let mut quirks = quirks.lock().unwrap();
    quirks.seen.push((
        parts.method.clone(),
        path.clone(),
        header("authorization"),
        header("range"),
    ));
    if path.starts_with("/token") {
        quirks.token_form = body.to_vec();
        return match &quirks.token {
            Some(token) => {
                format!(r#"{{"token":"{token}","refresh_token":"refresh"}}"#).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    if let Some(challenge) = &quirks.challenge
        && (quirks.authorization.is_none() || header("authorization") != quirks.authorization)
    {
        let headers = [("www-authenticate", challenge.clone())];
        return (StatusCode::UNAUTHORIZED, headers).into_response();
    }
    if without_query(&path) == "/v2/" {
        return "{}".into_response();
    }
    if path.contains("/blobs/uploads/") {
        return upload(&mut quirks, &parts.method, &path, &body);
    }
    if let Some((_, target)) = path.split_once("/manifests/") {
        let target = without_query(target);
        return manifest(&mut quirks, &parts.method, target, &parts.headers, &body);
    }
    match path.split_once("/blobs/").map(|(_, d)| without_query(d)) {
        Some(digest) => blob(&mut quirks, &parts.method, digest, header("range")),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn without_query(text: &str) -> &str {
    text.split('?').next().unwrap_or(text)
}

fn manifest(
    quirks: &mut Quirks,
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    if quirks.unavailable > 0 {
        quirks.unavailable -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if method == Method::PUT {
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        quirks.put_manifest(target, &kind, body.to_vec());
        return StatusCode::CREATED.into_response();
    }
    match quirks.manifests.get(target) {
        Some((kind, bytes)) => {
            let mut answer = ([("content-type", kind.clone())], bytes.clone()).into_response();
            if let Some((limit, left)) = &quirks.ratelimit {
                let headers = answer.headers_mut();
                headers.insert("ratelimit-limit", limit.parse().unwrap());
                headers.insert("ratelimit-remaining", left.parse().unwrap());
            }
            answer
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn blob(quirks: &mut Quirks, method: &Method, digest: &str, range: Option<String>) -> Response {
    let Some(bytes) = digest
        .parse()
        .ok()
        .and_then(|d: Digest| quirks.blobs.get(&d))
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    if let Some((which, times)) = &mut quirks.vanish_after
        && which.as_str() == digest
    {
        if *times == 0 {
            return StatusCode::NOT_FOUND.into_response();
        }
        *times -= 1;
    }
    if let Some(host) = &quirks.blobs_elsewhere {
        let to = format!("http://{host}/v2/x/blobs/{digest}");
        return (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response();
    }
    let total = bytes.len();
    let asked = range.filter(|_| quirks.ranges).and_then(|r| {
        let (from, last) = r.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, last.parse().unwrap_or(total - 1)))
    });
    let (from, last): (usize, usize) = asked.unwrap_or((0, total - 1));
    let rest = Bytes::from(bytes[from..=last.min(total - 1)].to_vec());
    let status = match asked {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let headers = [
        ("content-length", rest.len().to_string()),
        ("content-range", format!("bytes {from}-{last}/{total}")),
    ];
    match &mut quirks.breaks {
        Some((which, after, times)) if which.as_str() == digest && *times > 0 => {
            *times -= 1;
            let some = rest.slice(..(*after).min(rest.len()));
            // What was sent leaves before the line breaks.
            let broken = futures_util::stream::once(async { Ok(some) }).chain(
                futures_util::stream::once(async {
                    tokio::task::yield_now().await;
                    Err(std::io::Error::other("the line breaks"))
                }),
            );
            if quirks.vanish
                && let Ok(gone) = digest.parse::<Digest>()
            {
                quirks.blobs.remove(&gone);
            }
            (status, headers, Body::from_stream(broken)).into_response()
        }
        _ => (status, headers, rest).into_response(),
    }
}

fn upload(quirks: &mut Quirks, method: &Method, path: &str, body: &Bytes) -> Response {
    // Relative, and with a query that must be kept.
    let accepted = || {
        let location = [("location", "/v2/x/blobs/uploads/1?state=a%2Bb")];
        (StatusCode::ACCEPTED, location).into_response()
    };
    match *method {
        Method::POST => {
            quirks.upload.clear();
            accepted()
        }
        Method::PATCH => {
            quirks.upload.extend_from_slice(body);
            accepted()
        }
        _ if quirks.chunks_only && !body.is_empty() => {
            StatusCode::PAYLOAD_TOO_LARGE.into_response()
        }
        _ => {
            quirks.upload.extend_from_slice(body);
            let bytes = std::mem::take(&mut quirks.upload);
            let digest = sha256(&bytes);
            let named = format!("digest={}", digest.as_str().replace(':', "%3A"));
            if !path.contains(&named) || !path.contains("state=a%2Bb") {
                return StatusCode::BAD_REQUEST.into_response();
            }
            quirks.blobs.insert(digest, bytes);
            StatusCode::CREATED.into_response()
        }
    }
}
