//! The page in a real browser, which goes where its links lead.

use std::process::Command;

use berth_store::hash::sha256;
use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{INDEX, MANIFEST, Server, expect};

/// What the browser has made of the page at `url` once its script has been quiet.
fn seen(url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--no-first-run",
            "--disable-background-networking",
            "--no-proxy-server",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .env("HOME", profile.path())
        .args(["--virtual-time-budget=20000", "--dump-dom", url])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("</html>"),
        "{url}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Where the link with this text leads.
fn link(page: &str, text: &str) -> String {
    let (before, _) = page
        .split_once(&format!("\">{text}</a>"))
        .unwrap_or_else(|| panic!("no link {text:?} in {page}"));
    before.rsplit_once("href=\"").unwrap().1.to_owned()
}

/// A digest as the page shortens it.
fn short(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').unwrap();
    format!("{algorithm}:{}…", &hex[..12])
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_tags_layers_and_referrers_are_a_click_away() {
    if !testkit::has_command("chromium") {
        testkit::skipped("chromium is missing: run scripts/prepare test");
        return;
    }
    let server = Server::start(json!({})).await;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "history": [{"created_by": "RUN echo <b>bold</b> & more"}],
    })
    .to_string();
    let config_digest = server.blob("team/app", config.as_bytes()).await;
    let layer = vec![b'x'; 3 << 10];
    let layer_digest = server.blob("team/app", &layer).await;
    let image = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}],
    })
    .to_string();
    let digest = sha256(image.as_bytes()).to_string();
    let put = server.put_manifest("team/app", &digest, MANIFEST, &image);
    expect(put.await, StatusCode::CREATED, "").await;
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": digest, "size": image.len(),
            "platform": {"os": "linux", "architecture": "amd64"}}],
    })
    .to_string();
    let put = server.put_manifest("team/app", "v1", INDEX, &index);
    expect(put.await, StatusCode::CREATED, "").await;
    let empty = server.blob("team/app", b"{}").await;
    let signature = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2}],
        "subject": {"mediaType": MANIFEST, "digest": digest, "size": image.len()},
        "annotations": {"signed-by": "alice"},
    })
    .to_string();
    let signature_digest = sha256(signature.as_bytes()).to_string();
    let put = server.put_manifest("team/app", &signature_digest, MANIFEST, &signature);
    expect(put.await, StatusCode::CREATED, "").await;

    let base = server.base.clone();
    let walk = move || {
        let follow = |page: &str, text: &str| seen(&format!("{base}/{}", link(page, text)));
        let repositories = seen(&format!("{base}/"));
        let tags = follow(&repositories, "team/app");
        assert!(tags.contains(">index<"), "{tags}");
        let platforms = follow(&tags, "v1");
        assert!(platforms.contains("linux/amd64"), "{platforms}");
        let layers = follow(&platforms, &short(&digest));
        for part in [
            &*short(&layer_digest),
            "3.0 KiB",
            "Referrers",
            "docker pull",
        ] {
            assert!(layers.contains(part), "no {part} in {layers}");
        }
        // What an image says is text, whatever it looks like.
        let text = "RUN echo &lt;b&gt;bold&lt;/b&gt; &amp; more";
        assert!(layers.contains(text), "{layers}");
        let referrer = follow(&layers, &short(&signature_digest));
        assert!(referrer.contains("alice"), "{referrer}");
        let nowhere = seen(&format!("{base}/#none"));
        assert!(nowhere.contains("class=\"problem\""), "{nowhere}");
    };
    tokio::task::spawn_blocking(walk).await.unwrap();
}
