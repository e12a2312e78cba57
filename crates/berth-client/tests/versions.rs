//! Which version of the API is spoken, seen from an engine's side.

use std::sync::{Arc, Mutex};

use berth_client::{Body, Client, Host, Options};
use berth_spec::docker::API_VERSION;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A listener that answers as an engine does which knows versions up to `newest`; the request lines that it sees.
fn engine(listener: UnixListener, newest: &'static str) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lines = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut head).await.expect("bytes"), 0);
            }
            let head = String::from_utf8(head).expect("text");
            let line = head.lines().next().expect("a line").to_owned();
            let known = line.contains("/_ping") || line.contains(&format!("/v{newest}/"));
            let (status, body) = match known {
                true => ("200 OK", r#"{"ok":true}"#.to_owned()),
                false => (
                    "400 Bad Request",
                    format!(
                        r#"{{"message":"client version {API_VERSION} is too new. Maximum supported API version is {newest}"}}"#
                    ),
                ),
            };
            let body = if line.starts_with("HEAD") { "" } else { &body };
            let answer = format!(
                "HTTP/1.1 {status}\r\nApi-Version: {newest}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            lines.lock().expect("lines").push(line);
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    seen
}

fn client(dir: &tempfile::TempDir) -> Client {
    Client::new(Options {
        host: Host::Unix(dir.path().join("s")),
        tls: None,
        api_version: None,
        headers: Vec::new(),
        user_agent: "test".to_owned(),
    })
    .expect("a client")
}

fn listen(dir: &tempfile::TempDir) -> UnixListener {
    UnixListener::bind(dir.path().join("s")).expect("a socket")
}

#[tokio::test]
async fn an_engine_that_knows_our_version_is_not_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let seen = engine(listen(&dir), API_VERSION);
    let client = client(&dir);
    client.get("/info").done().await.unwrap();
    assert_eq!(client.api_version().await.unwrap(), API_VERSION);
    let expected = [format!("GET /v{API_VERSION}/info HTTP/1.1")];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn an_older_engine_gets_the_same_request_in_its_own_version() {
    let dir = tempfile::tempdir().unwrap();
    let seen = engine(listen(&dir), "1.41");
    let client = client(&dir);
    let create = || client.post("/containers/create").body_json(&"{}").unwrap();
    create().done().await.unwrap();
    create().done().await.unwrap();
    assert_eq!(client.api_version().await.unwrap(), "1.41");
    let expected = [
        format!("POST /v{API_VERSION}/containers/create HTTP/1.1"),
        "HEAD /_ping HTTP/1.1".to_owned(),
        "POST /v1.41/containers/create HTTP/1.1".to_owned(),
        "POST /v1.41/containers/create HTTP/1.1".to_owned(),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn what_can_be_sent_once_only_is_sent_after_asking() {
    let dir = tempfile::tempdir().unwrap();
    let seen = engine(listen(&dir), "1.41");
    let client = client(&dir);
    let body = Body::from_reader(&b"a tar"[..]);
    let request = client.post("/build").body("application/x-tar", body);
    request.done().await.unwrap();
    let expected = ["HEAD /_ping HTTP/1.1", "POST /v1.41/build HTTP/1.1"];
    assert_eq!(*seen.lock().unwrap(), expected);
}
