//! Manifests, tags and referrers.

use berth_store::hash::sha256;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{INDEX, MANIFEST, Server, expect, header};

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_comes_after_what_it_needs() {
    let server = Server::start(json!({})).await;
    let mut manifest = server.manifest("a", "content").await;
    let elsewhere = server
        .put_manifest("b", "x", MANIFEST, &manifest.to_string())
        .await;
    expect(elsewhere, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
    manifest["layers"][0]["size"] = json!(8);
    let size = server
        .put_manifest("a", "x", MANIFEST, &manifest.to_string())
        .await;
    expect(size, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
    manifest["layers"][0]["size"] = json!(7);
    manifest["manifests"] = json!([]);
    let both = server
        .put_manifest("a", "x", MANIFEST, &manifest.to_string())
        .await;
    expect(both, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
    let null = server.put_manifest("a", "x", MANIFEST, "null").await;
    expect(null, StatusCode::BAD_REQUEST, "MANIFEST_INVALID").await;
    let huge = server
        .put_manifest("a", "x", MANIFEST, &" ".repeat((4 << 20) + 1))
        .await;
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": sha256(b"nothing"), "size": 7}]});
    let sparse = server
        .put_manifest("a", "x", INDEX, &index.to_string())
        .await;
    expect(sparse, StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN").await;
    expect(
        server.get("/v2/a/manifests/x").await,
        StatusCode::NOT_FOUND,
        "MANIFEST_UNKNOWN",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_the_bytes_that_came_and_changes_with_the_tag() {
    let server = Server::start(json!({})).await;
    let one = server.image("a", "v", "one").await;
    let answer = server.get("/v2/a/manifests/v").await;
    assert_eq!(header(&answer, "docker-content-digest"), one);
    assert_eq!(header(&answer, "content-type"), MANIFEST);
    assert_eq!(
        header(&answer, "docker-distribution-api-version"),
        "registry/2.0"
    );
    assert_eq!(sha256(&answer.bytes().await.unwrap()).to_string(), one);
    let same = server
        .request(Method::GET, "/v2/a/manifests/v")
        .header("if-none-match", format!("\"{one}\""))
        .send()
        .await
        .unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    let two = server.image("a", "v", "two").await;
    let now = server
        .request(Method::HEAD, "/v2/a/manifests/v")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&now, "docker-content-digest"), two);
    // The tag alone goes, then the manifest; what a manifest needs cannot go before it.
    let manifest: Value = server
        .get(&format!("/v2/a/manifests/{two}"))
        .await
        .json()
        .await
        .unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let held = server.delete(&format!("/v2/a/blobs/{layer}")).await;
    expect(held, StatusCode::CONFLICT, "DENIED").await;
    expect(
        server.delete("/v2/a/manifests/v").await,
        StatusCode::ACCEPTED,
        "",
    )
    .await;
    expect(
        server.get("/v2/a/manifests/v").await,
        StatusCode::NOT_FOUND,
        "MANIFEST_UNKNOWN",
    )
    .await;
    let path = format!("/v2/a/manifests/{two}");
    expect(server.get(&path).await, StatusCode::OK, "").await;
    expect(server.delete(&path).await, StatusCode::ACCEPTED, "").await;
    expect(
        server.delete(&path).await,
        StatusCode::NOT_FOUND,
        "MANIFEST_UNKNOWN",
    )
    .await;
    expect(
        server.delete(&format!("/v2/a/blobs/{layer}")).await,
        StatusCode::ACCEPTED,
        "",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let server = Server::start(json!({})).await;
    let digest = server.image("a", "t0", "content").await;
    let manifest = server
        .get(&format!("/v2/a/manifests/{digest}"))
        .await
        .text()
        .await
        .unwrap();
    for tag in ["t1", "t2", "t3", "t4"] {
        server.put_manifest("a", tag, MANIFEST, &manifest).await;
    }
    let (mut path, mut seen) = ("/v2/a/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let answer = server.get(&path).await;
        let link = header(&answer, "link");
        let page: Value = answer.json().await.unwrap();
        seen.extend(page["tags"].as_array().unwrap().clone());
        let Some(next) = link
            .strip_prefix('<')
            .and_then(|l| l.split_once(">; rel=\"next\""))
        else {
            break;
        };
        path = next.0.to_owned();
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4"]);
    let none: Value = server
        .get("/v2/a/tags/list?n=0")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(none["tags"], json!([]));
    let bad = server.get("/v2/a/tags/list?n=x").await;
    expect(bad, StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID").await;
    expect(
        server.get("/v2/b/tags/list").await,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
    )
    .await;
    let catalog: Value = server.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog["repositories"], json!(["a"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_listed_and_filtered() {
    let server = Server::start(json!({})).await;
    let subject = server.image("a", "v", "content").await;
    for kind in ["application/x.sbom", "application/x.signature"] {
        let mut artifact = server.manifest("a", kind).await;
        artifact["artifactType"] = json!(kind);
        artifact["annotations"] = json!({"made.by": "test"});
        artifact["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
        let text = artifact.to_string();
        let answer = server
            .put_manifest("a", &sha256(text.as_bytes()).to_string(), MANIFEST, &text)
            .await;
        assert_eq!(header(&answer, "oci-subject"), subject);
        expect(answer, StatusCode::CREATED, "").await;
    }
    let all: Value = server
        .get(&format!("/v2/a/referrers/{subject}"))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(all["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(all["manifests"][0]["annotations"]["made.by"], "test");
    let path = format!("/v2/a/referrers/{subject}?artifactType=application/x.sbom");
    let some = server.get(&path).await;
    assert_eq!(header(&some, "oci-filters-applied"), "artifactType");
    assert_eq!(header(&some, "content-type"), INDEX);
    let some: Value = some.json().await.unwrap();
    assert_eq!(some["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(some["manifests"][0]["artifactType"], "application/x.sbom");
    let none: Value = server
        .get(&format!("/v2/nothing/referrers/{}", sha256(b"x")))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(none["manifests"], json!([]));
}
