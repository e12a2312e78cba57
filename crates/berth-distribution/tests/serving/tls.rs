//! Over TLS, files are read and sent by this process: the same bytes.

use reqwest::StatusCode;
use serde_json::json;

use crate::harness::{Server, expect};

#[tokio::test(flavor = "multi_thread")]
async fn https_serves_what_http_does() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut server = Server::start(json!({"tls": {"certificate": certificate, "key": key}})).await;
    let plain = server.base.clone();
    server.base = plain.replace("http:", "https:");
    let pem = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    server.http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([pem])
        .build()
        .unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 249) as u8).collect();
    let digest = server.blob("a", &bytes).await;
    let path = format!("/v2/a/blobs/{digest}");
    assert!(server.get(&path).await.bytes().await.unwrap() == bytes);
    let part = server
        .request(reqwest::Method::GET, &path)
        .header("range", "bytes=-7");
    let part = part.send().await.unwrap();
    assert_eq!(part.bytes().await.unwrap()[..], bytes[bytes.len() - 7..]);
    expect(server.get("/v2/").await, StatusCode::OK, "").await;
    assert!(
        server
            .http
            .get(format!("{plain}/v2/"))
            .send()
            .await
            .is_err()
    );
}
