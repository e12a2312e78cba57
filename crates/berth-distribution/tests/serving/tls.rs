//! Over TLS, files are read and sent by this process: the same bytes. Certificates are exchanged while it
//! runs.

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

/// A client that trusts `pem` alone, and keeps no connection.
fn trusting(pem: &str) -> reqwest::Client {
    let pem = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tls_certs_only([pem])
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_connection_sees_a_new_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let make = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (first, second) = (make(), make());
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, first.cert.pem()).unwrap();
    std::fs::write(&key, first.signing_key.serialize_pem()).unwrap();
    let server = Server::start(json!({"tls": {"certificate": certificate, "key": key}})).await;
    let url = server.base.replace("http:", "https:") + "/v2/";
    let kept = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(first.cert.pem().as_bytes()).unwrap()]);
    let kept = kept.build().unwrap();
    let ask = |client: reqwest::Client| client.get(&url).send();
    assert_eq!(ask(kept.clone()).await.unwrap().status(), StatusCode::OK);

    // A certificate without its key is no reason to meet clients with nothing.
    std::fs::write(&certificate, second.cert.pem()).unwrap();
    assert!(ask(trusting(&first.cert.pem())).await.is_ok());
    assert!(ask(trusting(&second.cert.pem())).await.is_err());
    // Both, by a rename, as certificate tools do it.
    let aside = dir.path().join("key.new");
    std::fs::write(&aside, second.signing_key.serialize_pem()).unwrap();
    std::fs::rename(&aside, &key).unwrap();
    assert!(ask(trusting(&second.cert.pem())).await.is_ok());
    assert!(ask(trusting(&first.cert.pem())).await.is_err());
    // A connection that was open stays.
    assert_eq!(ask(kept).await.unwrap().status(), StatusCode::OK);
}
