//! Blobs: every way in, and out again.

use berth_spec::digest::Algorithm;
use berth_store::hash::{digest_with, sha256};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Server, expect, header};

#[tokio::test(flavor = "multi_thread")]
async fn chunks_must_follow_each_other() {
    let server = Server::start(json!({})).await;
    let at = server.upload("a").await;
    let patch = |range: &'static str, bytes: &'static [u8]| {
        server
            .request(Method::PATCH, &at)
            .header("content-range", range)
            .body(bytes)
            .send()
    };
    let first = patch("0-3", b"abcd").await.unwrap();
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert_eq!(header(&first, "range"), "0-3");
    // A gap, a repetition, a range that tells of other bytes than come, one that is none.
    for (range, bytes, status, code) in [
        (
            "6-7",
            &b"gh"[..],
            StatusCode::RANGE_NOT_SATISFIABLE,
            "RANGE_INVALID",
        ),
        (
            "0-3",
            b"abcd",
            StatusCode::RANGE_NOT_SATISFIABLE,
            "RANGE_INVALID",
        ),
        ("4-9", b"ef", StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        ("x", b"ef", StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
    ] {
        expect(patch(range, bytes).await.unwrap(), status, code).await;
    }
    let status = server.get(&at).await;
    assert_eq!(status.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&status, "range"), "0-3");
    let digest = sha256(b"abcdef");
    let last = server
        .request(Method::PUT, &format!("{at}?digest={digest}"))
        .header("content-range", "4-5")
        .body("ef")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&last, "docker-content-digest"), digest.as_str());
    expect(last, StatusCode::CREATED, "").await;
    assert_eq!(
        server
            .get(&format!("/v2/a/blobs/{digest}"))
            .await
            .text()
            .await
            .unwrap(),
        "abcdef"
    );
    // The upload is over, and belongs to one repository.
    expect(
        server.get(&at).await,
        StatusCode::NOT_FOUND,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
    let other = server.upload("a").await.replace("/v2/a/", "/v2/b/");
    expect(
        server.get(&other).await,
        StatusCode::NOT_FOUND,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_restart() {
    let mut server = Server::start(json!({})).await;
    let at = server.upload("a").await;
    let half = vec![7; 3_000_000];
    let sent = server
        .request(Method::PATCH, &at)
        .body(half.clone())
        .send()
        .await
        .unwrap();
    expect(sent, StatusCode::ACCEPTED, "").await;
    server.restart().await;
    assert_eq!(header(&server.get(&at).await, "range"), "0-2999999");
    let whole = [half.clone(), half.clone()].concat();
    // By another algorithm than the running hash has: the file is read once more.
    let digest = digest_with(Algorithm::Sha512, &whole);
    let done = server
        .request(Method::PUT, &format!("{at}?digest={digest}"))
        .body(half)
        .send()
        .await
        .unwrap();
    expect(done, StatusCode::CREATED, "").await;
    server.restart().await;
    let back = server.get(&format!("/v2/a/blobs/{digest}")).await;
    assert!(back.bytes().await.unwrap() == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_never_seen() {
    let server = Server::start(json!({"blob-max": "1KB"})).await;
    let digest = sha256(b"right");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let wrong = server
        .request(Method::POST, &path)
        .body("wrong")
        .send()
        .await
        .unwrap();
    expect(wrong, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    let head = server.request(Method::HEAD, &format!("/v2/a/blobs/{digest}"));
    assert_eq!(head.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let at = server.upload("a").await;
    let none = server
        .request(Method::PUT, &at)
        .body("right")
        .send()
        .await
        .unwrap();
    expect(none, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    let long = server
        .request(Method::PATCH, &at)
        .body(vec![0; 2000])
        .send()
        .await
        .unwrap();
    expect(long, StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID").await;
    let md5 = server.get("/v2/a/blobs/md5:0123").await;
    expect(md5, StatusCode::BAD_REQUEST, "DIGEST_INVALID").await;
    expect(
        server.get("/v2/UPPER/x/tags/list").await,
        StatusCode::BAD_REQUEST,
        "NAME_INVALID",
    )
    .await;
    let left = std::fs::read_dir(server.dir.path().join("root/blobs/sha256")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_and_conditions() {
    let server = Server::start(json!({})).await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let digest = server.blob("a", &bytes).await;
    let path = format!("/v2/a/blobs/{digest}");
    let ask = |name: &'static str, value: String| {
        server
            .request(Method::GET, &path)
            .header(name, value)
            .send()
    };
    let part = ask("range", "bytes=1000000-2999999".into()).await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        header(&part, "content-range"),
        "bytes 1000000-2999999/3000000"
    );
    assert!(part.bytes().await.unwrap() == bytes[1_000_000..]);
    let beyond = ask("range", "bytes=3000000-".into()).await.unwrap();
    assert_eq!(header(&beyond, "content-range"), "bytes */3000000");
    expect(beyond, StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID").await;
    let same = ask("if-none-match", format!("\"{digest}\"")).await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    let whole = server.get(&path).await;
    assert!(whole.bytes().await.unwrap() == bytes);
    let head = server.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(header(&head, "content-length"), "3000000");
    // Many at once over few connections: parts of files and small answers in turn.
    let all = (0..32u64).map(|i| {
        let (server, path, bytes) = (&server, &path, &bytes);
        async move {
            let from = i * 1000;
            let range = format!("bytes={from}-{}", from + 400_000);
            let part = server
                .request(Method::GET, path)
                .header("range", range)
                .send()
                .await;
            let from = from as usize;
            assert!(part.unwrap().bytes().await.unwrap() == bytes[from..=from + 400_000]);
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_and_deleted_per_repository() {
    let server = Server::start(json!({})).await;
    let digest = server.blob("from", b"layer").await;
    let mount = |query: &str| {
        let path = format!("/v2/to/blobs/uploads/?mount={digest}{query}");
        server.request(Method::POST, &path).send()
    };
    expect(
        mount("&from=elsewhere").await.unwrap(),
        StatusCode::ACCEPTED,
        "",
    )
    .await;
    expect(mount("&from=from").await.unwrap(), StatusCode::CREATED, "").await;
    let there = format!("/v2/to/blobs/{digest}");
    expect(
        server.delete(&format!("/v2/from/blobs/{digest}")).await,
        StatusCode::ACCEPTED,
        "",
    )
    .await;
    assert_eq!(server.get(&there).await.text().await.unwrap(), "layer");
    expect(mount("").await.unwrap(), StatusCode::CREATED, "").await;
    expect(server.delete(&there).await, StatusCode::ACCEPTED, "").await;
    expect(
        server.get(&there).await,
        StatusCode::NOT_FOUND,
        "BLOB_UNKNOWN",
    )
    .await;
    let server = Server::start(json!({"delete": false})).await;
    let digest = server.blob("a", b"x").await;
    let kept = server.delete(&format!("/v2/a/blobs/{digest}")).await;
    expect(kept, StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED").await;
}
