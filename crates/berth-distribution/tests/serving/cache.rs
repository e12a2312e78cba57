//! The pull-through cache, before another registry and before one that misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use berth_store::hash::sha256;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Server, expect, header};

async fn in_front_of(upstream: &str, fresh: &str) -> Server {
    let host = upstream.trim_start_matches("http://");
    Server::start(json!({"caches": [
        {"upstream": host, "prefix": "up", "fresh": fresh, "insecure": true, "root": true}]}))
    .await
}

async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(&format!("berth_registry_{name} ")));
    line.map_or(0, |n| n.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_make_one_fetch() {
    let upstream = Server::start(json!({})).await;
    let bytes: Vec<u8> = (0..2_000_000u32).map(|i| (i % 253) as u8).collect();
    let digest = upstream.blob("team/app", &bytes).await;
    let cache = in_front_of(&upstream.base, "1h").await;
    let before = metric(&upstream, "sent_bytes_total").await;
    let all = (0..200).map(|_| async {
        let answer = cache.get(&format!("/v2/up/team/app/blobs/{digest}")).await;
        assert_eq!(header(&answer, "content-length"), "2000000");
        assert!(answer.bytes().await.unwrap() == bytes);
    });
    futures_util::future::join_all(all).await;
    let sent = metric(&upstream, "sent_bytes_total").await - before;
    assert!(sent < 2_100_000, "{sent} bytes left upstream");
    assert_eq!(metric(&cache, "cache_fetches_total").await, 1);
    // Now it is here: parts are served, also under the plain name and for `ns=`.
    let host = upstream.base.trim_start_matches("http://").to_owned();
    for path in [
        format!("/v2/team/app/blobs/{digest}"),
        format!("/v2/team/app/blobs/{digest}?ns={host}"),
    ] {
        let part = cache
            .request(Method::GET, &path)
            .header("range", "bytes=5-9")
            .send()
            .await
            .unwrap();
        assert_eq!(part.bytes().await.unwrap()[..], bytes[5..10]);
    }
    assert_eq!(metric(&cache, "cache_fetches_total").await, 1);
    let missing = format!("/v2/up/team/app/blobs/{}", sha256(b"nothing"));
    expect(
        cache.get(&missing).await,
        StatusCode::NOT_FOUND,
        "BLOB_UNKNOWN",
    )
    .await;
    let push = cache
        .request(Method::POST, "/v2/up/team/app/blobs/uploads/")
        .send()
        .await
        .unwrap();
    expect(push, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_follow_upstream_and_are_served_stale_without_it() {
    let mut upstream = Server::start(json!({})).await;
    let one = upstream.image("app", "v", "one").await;
    let cache = in_front_of(&upstream.base, "0s").await;
    let tag = || async {
        let answer = cache.get("/v2/up/app/manifests/v").await;
        assert_eq!(answer.status(), StatusCode::OK);
        (
            header(&answer, "docker-content-digest"),
            header(&answer, "warning"),
        )
    };
    assert_eq!(tag().await, (one.clone(), String::new()));
    let fetched = metric(&cache, "cache_fetches_total").await;
    assert_eq!(tag().await.0, one);
    assert_eq!(
        metric(&cache, "cache_fetches_total").await,
        fetched,
        "HEAD was enough"
    );
    let two = upstream.image("app", "v", "two").await;
    assert_eq!(tag().await.0, two);
    let tags: Value = cache
        .get("/v2/up/app/tags/list")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(tags["tags"], json!(["v"]));
    let none = cache.get("/v2/up/app/manifests/none").await;
    expect(none, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN").await;
    upstream.stop().await;
    let (digest, warning) = tag().await;
    assert_eq!(digest, two);
    assert!(warning.starts_with("299 - "), "{warning}");
    let unknown = cache.get("/v2/up/app/manifests/other").await;
    expect(unknown, StatusCode::BAD_GATEWAY, "UNAVAILABLE").await;
}

struct Flaky {
    bytes: Bytes,
    asked: AtomicUsize,
}

/// Breaks off the first answer halfway; the next must ask for the rest.
async fn flaky(State(flaky): State<Arc<Flaky>>, headers: HeaderMap) -> Response {
    let half = flaky.bytes.len() / 2;
    if flaky.asked.fetch_add(1, Ordering::SeqCst) == 0 {
        let first = flaky.bytes.slice(..half);
        let parts = vec![Ok(first), Err(std::io::Error::other("broken"))];
        return Response::builder()
            .header("content-length", flaky.bytes.len())
            .body(Body::from_stream(futures_util::stream::iter(parts)))
            .unwrap();
    }
    let range = headers["range"].to_str().unwrap();
    let from: usize = range
        .trim_start_matches("bytes=")
        .trim_end_matches('-')
        .parse()
        .unwrap();
    Response::builder()
        .status(206)
        .body(Body::from(flaky.bytes.slice(from..)))
        .unwrap()
}

async fn serve(flaky_state: Arc<Flaky>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v2/", get(async || "{}"))
        .route("/v2/a/blobs/{digest}", get(flaky))
        .with_state(flaky_state);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_goes_on_and_wrong_bytes_are_not_kept() {
    let bytes = Bytes::from(vec![3; 5_000_000]);
    let state = Arc::new(Flaky {
        bytes: bytes.clone(),
        asked: AtomicUsize::new(0),
    });
    let cache = in_front_of(&serve(state.clone()).await, "1h").await;
    let answer = cache
        .get(&format!("/v2/up/a/blobs/{}", sha256(&bytes)))
        .await;
    assert!(answer.bytes().await.unwrap() == bytes);
    assert_eq!(state.asked.load(Ordering::SeqCst), 2);
    // What upstream sends under another digest never is a whole body, nor a blob here.
    state.asked.store(1, Ordering::SeqCst);
    let state = Arc::new(Flaky {
        bytes: Bytes::from(vec![4; 100_000]),
        asked: AtomicUsize::new(0),
    });
    let cache = in_front_of(&serve(state).await, "1h").await;
    let path = format!("/v2/up/a/blobs/{}", sha256(b"something else"));
    let whole = match cache.http.get(format!("{}{path}", cache.base)).send().await {
        Ok(answer) => answer.status().is_success() && answer.bytes().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "wrong bytes were served as a whole blob");
    assert_eq!(metric(&cache, "blobs").await, 0);
}
