//! Immutable tags, quotas, read-only mode, the audit log, webhooks, metrics.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{MANIFEST, Server, expect};

#[tokio::test(flavor = "multi_thread")]
async fn immutable_tags_stay() {
    let server = Server::start(json!({"immutable": [
        {"repositories": ["**"], "tags": ["v*"]}]}))
    .await;
    let digest = server.image("a", "v1", "one").await;
    server.image("a", "latest", "one").await;
    server.image("a", "v1", "one").await;
    server.image("a", "latest", "two").await;
    let other = server.manifest("a", "two").await.to_string();
    let moved = server.put_manifest("a", "v1", MANIFEST, &other).await;
    expect(moved, StatusCode::CONFLICT, "DENIED").await;
    for target in ["v1", &digest] {
        let gone = server.delete(&format!("/v2/a/manifests/{target}")).await;
        expect(gone, StatusCode::CONFLICT, "DENIED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_count_each_blob_once() {
    let server = Server::start(json!({"quotas": [{"namespace": "team", "bytes": "1000B"}]})).await;
    let push = |repository: &str, fill: u8, length: usize| {
        let bytes = vec![fill; length];
        let digest = berth_store::hash::sha256(&bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let request = server.request(Method::POST, &path).body(bytes);
        async move { request.send().await.unwrap() }
    };
    expect(push("team/a", 1, 600).await, StatusCode::CREATED, "").await;
    expect(push("team/b", 1, 600).await, StatusCode::CREATED, "").await;
    expect(push("team", 2, 600).await, StatusCode::FORBIDDEN, "DENIED").await;
    expect(push("teams", 2, 600).await, StatusCode::CREATED, "").await;
    expect(push("team/a", 3, 400).await, StatusCode::CREATED, "").await;
    let digest = berth_store::hash::sha256(&vec![2; 600]);
    let path = format!("/v2/team/c/blobs/uploads/?mount={digest}&from=teams");
    let mount = server.request(Method::POST, &path).send().await.unwrap();
    expect(mount, StatusCode::FORBIDDEN, "DENIED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told() {
    let (sender, mut told) = mpsc::channel::<(HeaderMap, Value)>(16);
    let hook = |State(sender): State<mpsc::Sender<(HeaderMap, Value)>>,
                headers: HeaderMap,
                body: String| async move {
        let event = serde_json::from_str(&body).unwrap();
        sender.send((headers, event)).await.unwrap();
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(hook)).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let log = tempfile::NamedTempFile::new().unwrap();
    let server = Server::start(json!({
        "audit": {"file": log.path(), "pulls": true},
        "webhooks": [{"url": url, "secret": "key", "actions": ["push"], "repositories": ["a"]}]}))
    .await;
    server.image("b", "v", "content").await;
    let digest = server.image("a", "v", "content").await;
    let (headers, event) = loop {
        let (headers, event) = told.recv().await.unwrap();
        if event["events"][0]["target"]["tag"] == "v" {
            break (headers, event);
        }
    };
    assert!(
        headers["x-berth-signature"]
            .to_str()
            .unwrap()
            .starts_with("sha256=")
    );
    let target = &event["events"][0]["target"];
    assert_eq!(
        (&target["repository"], &target["digest"]),
        (&json!("a"), &json!(digest))
    );
    server.get("/v2/a/manifests/v").await;
    server.delete("/v2/a/manifests/v").await;
    let text = std::fs::read_to_string(log.path()).unwrap();
    let actions: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["action"].clone())
        .collect();
    let pushes = actions.iter().filter(|a| **a == "push").count();
    assert_eq!(pushes, 6, "two images of two blobs and a manifest: {text}");
    assert_eq!(actions[6..], [json!("pull"), json!("delete")]);
    let metrics = server.get("/metrics").await.text().await.unwrap();
    for line in [
        "berth_registry_requests_total{kind=\"manifest\",status=\"2xx\"} 4",
        "berth_registry_manifests 2",
        "berth_registry_blobs 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_is_read_only() {
    let server = Server::start(json!({"read-only": true})).await;
    let push = server
        .request(Method::POST, "/v2/a/blobs/uploads/")
        .send()
        .await
        .unwrap();
    expect(push, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
    expect(server.get("/v2/").await, StatusCode::OK, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_its_reader_may_see() {
    let server = Server::start(json!({})).await;
    server.image("team/app", "v1", "content").await;
    let page = server.get("/").await;
    assert!(
        page.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    let text = page.text().await.unwrap();
    for part in text.split('"').filter(|p| p.starts_with("/page.")) {
        assert_eq!(server.get(part).await.status(), StatusCode::OK, "{part}");
    }
    assert!(!text.contains("http"), "nothing comes from elsewhere");
    let list: Value = server.get("/api/repositories").await.json().await.unwrap();
    assert_eq!(list["repositories"][0]["name"], "team/app");
    assert_eq!(list["repositories"][0]["bytes"], 9);
    let tags: Value = server
        .get("/api/tags?repository=team/app")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(tags["tags"][0]["name"], "v1");
    expect(
        server.get("/api/tags?repository=none").await,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
    )
    .await;
    expect(
        server.get("/nothing").await,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
    )
    .await;
    let changed = server.request(Method::POST, "/").send().await.unwrap();
    expect(changed, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
}
