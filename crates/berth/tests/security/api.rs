//! Rule G: the API against those who may reach it and should not, and against nonsense.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::engine::Engine;

use crate::{BERTH, stays};

/// The status that these bytes are answered with; 0 for none.
fn status(engine: &Engine, request: &str) -> u16 {
    let mut stream = engine.api().connect().expect("a connection");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut said = Vec::new();
    let _ = stream.take(1 << 16).read_to_end(&mut said);
    let line = String::from_utf8_lossy(&said);
    line.split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0)
}

/// CVE-2014-3499, CVE-2021-21284, CVE-2021-41091, CVE-2024-25621: who is not root finds nothing open.
#[test]
fn state_is_private() {
    let engine = Engine::start(BERTH);
    stays(&engine, &["-v", "data:/data"], "busybox");
    let mode = |path: &Path| {
        let found = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        found.permissions().mode() & 0o7777
    };
    for dir in ["data", "run"] {
        assert_eq!(mode(&engine.path(dir)), 0o700, "{dir}");
    }
    assert_eq!(mode(&engine.path("berth.sock")), 0o660);
    // No socket is found by its name alone (CVE-2020-15257).
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("a list");
    let abstract_ones = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7));
    let ours = abstract_ones.filter(|name| name.starts_with('@') && name.contains("berth"));
    assert_eq!(ours.count(), 0);
}

/// A page in a browser, by its own address or by a name that it turned to this machine; a websocket is not
/// kept from it by the browser.
#[test]
fn browsers_are_refused() {
    let engine = Engine::start(BERTH);
    stays(&engine, &[], "busybox");
    let websocket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, headers, expected) in [
        ("/_ping", "Connection: close\r\n".to_owned(), 200),
        ("/_ping", "Origin: http://evil.example\r\n".to_owned(), 403),
        ("/_ping", "Origin: null\r\n".to_owned(), 403),
        (
            "/containers/box/attach/ws?stream=1&stdin=1",
            format!("Origin: http://evil.example\r\nConnection: Upgrade, close\r\n{websocket}"),
            403,
        ),
    ] {
        let closing = if headers.contains("Connection") {
            ""
        } else {
            "Connection: close\r\n"
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{closing}\r\n");
        assert_eq!(status(&engine, &request), expected, "{path} {headers}");
    }
}

/// An object with a member of the wrong kind.
const IMAGE: &str = r#"{"Image":1}"#;

/// Broken JSON, absurd numbers and climbing names are the caller's mistakes, and the engine goes on.
#[test]
fn nonsense_is_400_and_never_500() {
    let engine = Engine::start(BERTH);
    stays(&engine, &["-t"], "busybox");
    let api = engine.api();
    let call = |method: &str, path: &str, body: &[u8]| {
        let answer = api.call(method, path, body);
        answer.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    };
    let deep = format!("{{\"Cmd\":{}", "[".repeat(20_000));
    let bodies = ["{", "null", "[]", "\"x\"", IMAGE, "{} x", "\u{1}", &deep];
    for path in [
        "/containers/create",
        "/containers/box/exec",
        "/containers/box/update",
        "/networks/create",
        "/networks/bridge/connect",
        "/volumes/create",
        "/auth",
        "/commit?container=box",
    ] {
        for body in bodies {
            let status = call("POST", path, body.as_bytes()).status;
            // Nothing may be said by `null`, and nobody but create asks for an image.
            let empty = body == "null" || (body == IMAGE && path != "/containers/create");
            let expected = 400..if empty { 500 } else { 413 };
            let start = &body[..body.len().min(20)];
            assert!(
                expected.contains(&status) || (empty && status < 300),
                "{path} {start}: {status}"
            );
        }
    }
    for path in ["/containers/json", "/images/json", "/networks", "/volumes"] {
        for filters in [
            "{",
            "[]",
            "%22x%22",
            "%7B%22label%22:5%7D",
            "%00",
            "%7B%22nonesuch%22:%7B%22a%22:true%7D%7D",
        ] {
            let answer = call("GET", &format!("{path}?filters={filters}"), b"");
            assert_eq!(answer.status, 400, "{path} {filters}: {}", answer.text());
        }
    }
    for size in ["h=99999999999&w=5", "h=-1&w=1", "h=x&w=1", "h=65536&w=1"] {
        let answer = call("POST", &format!("/containers/box/resize?{size}"), b"");
        assert_eq!(answer.status, 400, "{size}: {}", answer.text());
    }
    let exec = br#"{"Cmd":["true"],"Tty":true,"ConsoleSize":[70000,1]}"#;
    assert_eq!(call("POST", "/containers/box/exec", exec).status, 400);
    for path in [
        "/containers/..%2f..%2fetc/json",
        "/containers/box/archive?path=%00",
        "/images/%00/json",
        "/v99999999999999999999.1/_ping",
    ] {
        let status = call("GET", path, b"").status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    assert_eq!(call("GET", "/_ping", b"").status, 200);
}

/// CVE-2019-13139, CVE-2018-20699: what a program or a table would take for something else.
#[test]
fn options_and_numbers_are_not_smuggled() {
    let engine = Engine::start(BERTH);
    let api = engine.api();
    for remote in [
        "--upload-pack=x",
        "-u%20x",
        "ext::sh%20-c%20x",
        "https://127.0.0.1:1/x.git%23--output=/x",
        "file:///etc",
    ] {
        let answer = api
            .call("POST", &format!("/build?remote={remote}"), b"")
            .expect("an answer");
        assert_eq!(answer.status, 400, "{remote}: {}", answer.text());
    }
    for cpus in ["0-2147483647", "0,9999999999999", "1-0", "a"] {
        let body = format!(r#"{{"Image":"busybox","HostConfig":{{"CpusetCpus":"{cpus}"}}}}"#);
        let answer = api
            .call("POST", "/containers/create", body.as_bytes())
            .expect("an answer");
        assert_eq!(answer.status, 400, "{cpus}: {}", answer.text());
    }
}
