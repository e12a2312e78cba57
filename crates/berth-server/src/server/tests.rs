//! A connection from its client's end: bounds, and handlers that fail.

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

async fn fails() -> &'static str {
    panic!("a handler that is wrong")
}

async fn takes(body: Body) -> crate::error::Reply<String> {
    let bytes = crate::body::bytes(body).await?;
    Ok(bytes.len().to_string())
}

/// A connection that is being served, and what keeps it so.
fn served(header_time: Duration) -> (DuplexStream, watch::Sender<bool>) {
    let router = Router::new()
        .route("/ping", get(|| async { "pong" }))
        .route("/fails", get(fails))
        .route("/takes", post(takes));
    let (client, server) = duplex(64 << 10);
    let (stop, shutdown) = watch::channel(false);
    let hosts = Arc::new(AllowedHosts::Names(Vec::new()));
    tokio::spawn(connection(
        server,
        None,
        router,
        hosts,
        header_time,
        shutdown,
    ));
    (client, stop)
}

/// What comes back for these bytes, until the server closes.
async fn answer_to(request: &[u8]) -> String {
    let (client, _stop) = served(Duration::from_millis(200));
    let (mut from, mut to) = tokio::io::split(client);
    let send = async {
        // The server may refuse before it has read all.
        let _ = to.write_all(request).await;
        to
    };
    let mut said = Vec::new();
    let (_to, read) = tokio::join!(send, from.read_to_end(&mut said));
    read.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

/// CVE-2021-21285, CVE-2024-23650, CVE-2026-15792: a request that makes a handler panic.
#[tokio::test]
async fn a_panic_ends_its_request_only() {
    let two = b"GET /fails HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let said = answer_to(two).await;
    assert!(said.starts_with("HTTP/1.1 500 "), "{said}");
    assert!(said.ends_with("pong"), "{said}");
}

#[tokio::test]
async fn half_a_header_is_not_waited_for() {
    for half in [&b""[..], b"GET /pi", b"GET /ping HTTP/1.1\r\nHost: loc"] {
        assert_eq!(answer_to(half).await, "", "{half:?}");
    }
}

#[tokio::test]
async fn headers_have_a_bound() {
    let mut request = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec();
    request.extend(std::iter::repeat_n(b'x', 1 << 20));
    request.extend(b"\r\n\r\n");
    let said = answer_to(&request).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    let many: String = (0..500).map(|n| format!("X-{n}: x\r\n")).collect();
    let request = format!("GET /ping HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    let said = answer_to(request.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
}

/// A length that is only said costs nothing; one that is sent is cut off.
#[tokio::test]
async fn bodies_have_a_bound() {
    let length = crate::body::JSON_MAX + 1;
    let mut request = format!(
        "POST /takes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.resize(request.len() + length, b' ');
    let said = answer_to(&request).await;
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
}

/// Two readings of one message are how requests are smuggled past whoever stands in front.
#[tokio::test]
async fn a_message_has_one_length() {
    let bodies = [
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: +2\r\n\r\nab",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ];
    for body in bodies {
        let request =
            format!("POST /takes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{body}");
        let said = answer_to(request.as_bytes()).await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 400 "),
            "{body:?}: {said}"
        );
    }
}

/// A page in a browser, by another site's address or by a name that leads here.
#[tokio::test]
async fn pages_are_refused() {
    for (header, good) in [
        ("Host: localhost", true),
        ("Host: evil.example", false),
        ("Host: localhost\r\nOrigin: http://evil.example", false),
        ("Host: localhost\r\nOrigin: null", false),
        ("Host: evil.example\r\nHost: localhost", false),
    ] {
        let request = format!("GET /ping HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
        let said = answer_to(request.as_bytes()).await;
        assert_eq!(
            said.starts_with("HTTP/1.1 200 "),
            good,
            "{header:?}: {said}"
        );
    }
}
