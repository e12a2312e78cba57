//! Collection and retention.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{MANIFEST, Server, expect};

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_needs_goes_and_nothing_else() {
    let mut server = Server::start(json!({"collection": {"grace": "0s", "uploads": "0s"}})).await;
    let kept = server.image("a", "kept", "kept").await;
    server.image("a", "gone", "gone").await;
    let loose = server.blob("a", b"never in a manifest").await;
    let upload = server.upload("a").await;
    assert_eq!(server.collect().await, 1, "the loose blob");
    expect(
        server.get(&format!("/v2/a/blobs/{loose}")).await,
        StatusCode::NOT_FOUND,
        "",
    )
    .await;
    expect(server.get(&upload).await, StatusCode::NOT_FOUND, "").await;
    let path = format!(
        "/v2/a/manifests/{}",
        server.image("a", "gone", "gone").await
    );
    expect(server.delete(&path).await, StatusCode::ACCEPTED, "").await;
    assert_eq!(
        server.collect().await,
        1,
        "the layer; the config is the other image's too"
    );
    let manifest: serde_json::Value = server
        .get(&format!("/v2/a/manifests/{kept}"))
        .await
        .json()
        .await
        .unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert_eq!(layer.text().await.unwrap(), "kept");
    assert_eq!(server.collect().await, 0);
    // The same bytes can come again.
    server.image("a", "gone", "gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_protects_what_a_client_was_told_of() {
    let mut server = Server::start(json!({})).await;
    let manifest = server.manifest("a", "content").await.to_string();
    assert_eq!(server.collect().await, 0);
    let put = server.put_manifest("a", "v", MANIFEST, &manifest).await;
    expect(put, StatusCode::CREATED, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_untagged_manifests_but_not_their_referrers_subjects_or_parts() {
    let mut server = Server::start(json!({
        "collection": {"grace": "0s"},
        "retention": [{"repositories": ["a"], "untagged-after": "0s"}]}))
    .await;
    let old = server.image("a", "v", "old").await;
    let new = server.image("a", "v", "new").await;
    let untouched = server.image("b", "v", "old").await;
    server.image("b", "v", "other").await;
    let mut artifact = server.manifest("a", "signature").await;
    artifact["subject"] = json!({"mediaType": MANIFEST, "digest": new, "size": 1});
    let text = artifact.to_string();
    let digest = berth_store::hash::sha256(text.as_bytes()).to_string();
    server.put_manifest("a", &digest, MANIFEST, &text).await;
    server.collect().await;
    for (repository, digest, there) in [
        ("a", &old, false),
        ("a", &new, true),
        ("a", &digest, true),
        ("b", &untouched, true),
    ] {
        let head = server.request(
            Method::HEAD,
            &format!("/v2/{repository}/manifests/{digest}"),
        );
        let found = head.send().await.unwrap().status() == StatusCode::OK;
        assert_eq!(found, there, "{repository}@{digest}");
    }
}
