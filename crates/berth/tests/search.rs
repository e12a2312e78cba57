//! `search` in an index that stands in for the Hub's.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

const FOUND: &str = r#"{"num_results":3,"query":"web","results":[
    {"name":"me/web","description":"A web\nserver whose description is longer than forty-five letters","star_count":7,"is_official":false,"is_automated":false},
    {"name":"web","description":"The one","star_count":1200,"is_official":true},
    {"name":"old/web","description":null,"star_count":1,"is_official":false,"is_automated":false}]}"#;

/// Answers every request with [`FOUND`], and tells its first line.
fn index() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            // Somebody who tries TLS first says no HTTP.
            if !first.starts_with("GET ") {
                continue;
            }
            while lines
                .next()
                .and_then(Result::ok)
                .is_some_and(|l| !l.is_empty())
            {}
            let length = FOUND.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{FOUND}"
            );
            let _ = stream.write_all(answer.as_bytes());
            if tell.send(first).is_err() {
                return;
            }
        }
    });
    (address, told)
}

#[test]
fn an_index_is_searched() {
    let engine = Engine::start_empty(BERTH, &[]);
    let (address, told) = index();
    let term = format!("{address}/web");
    let out = engine.ok(&["search", &term]);
    assert_eq!(
        told.recv().expect("a request"),
        "GET /v1/search?q=web&n=25 HTTP/1.1"
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(
        lines[0].starts_with("NAME") && lines[0].ends_with("OFFICIAL"),
        "{out}"
    );
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(words, ["web", "The", "one", "1200", "[OK]"]);
    assert!(
        lines[1].contains("A web server whose description is longer tha…"),
        "{out}"
    );
    for (flags, names) in [
        ("--filter is-official=true", "web"),
        ("--filter stars=5", "me/web\nweb"),
        ("--limit 1", "me/web"),
    ] {
        let line = format!("search --format {{{{.Name}}}} {flags} {term}");
        assert_eq!(engine.line(&line), names, "{flags}");
    }
    if let Some(found) = engine.docker_ok_since(28, &["search", &term]) {
        assert_eq!(found, out);
    }
    for (flags, words) in [
        ("--limit 101", "limit 101 is outside the range of [1, 100]"),
        ("--filter stars=x", "invalid filter 'stars=x'"),
        ("--filter nope=1", "invalid filter 'nope'"),
    ] {
        let err = engine.line_fails(1, &format!("search {flags} {term}"));
        assert!(err.contains(words), "{flags}: {err}");
    }
}
