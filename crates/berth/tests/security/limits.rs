//! Rule E: what comes in has a bound, and memory does not grow with what is only said.

use std::io::{Read, Write};

use testkit::engine::Engine;

use crate::BERTH;

/// KiB that the engine's process has had at most.
fn peak(engine: &Engine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid()));
    let status = status.expect("a running engine");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.expect("its memory")
}

fn header(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).expect("a name");
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Sends a tar of one header and so many MiB of `fill`; the answer's status line and body.
fn send(engine: &Engine, path: &str, head: &[u8], fill: &[u8], mib: usize) -> String {
    let method = if path.contains("/archive?") {
        "PUT"
    } else {
        "POST"
    };
    let mut stream = engine.api().connect().expect("a connection");
    let length = head.len() + (mib << 20) + 1024;
    let start = format!(
        "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
    );
    let block: Vec<u8> = fill.iter().copied().cycle().take(1 << 20).collect();
    let blocks = std::iter::repeat_n(&block[..], mib);
    // A refusal may come before the end.
    let _ = [start.as_bytes(), head]
        .into_iter()
        .chain(blocks)
        .chain([&[0; 1024][..]])
        .try_for_each(|bytes| stream.write_all(bytes));
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// 256 MiB of PAX header cost other engines 1.1 GiB, 62 MiB of `manifest.json` up to 1.3 GiB
/// (CVE-2017-14992, CVE-2023-25153, CVE-2026-47262).
#[test]
fn archives_cost_no_memory() {
    let engine = Engine::start(BERTH);
    engine.ok(&["create", "--name", "box", "busybox", "true"]);
    let before = peak(&engine);
    let pax = header("PaxHeaders/x", tar::EntryType::XHeader, 256 << 20);
    let name = header("././@LongLink", tar::EntryType::GNULongName, 256 << 20);
    for path in [
        "/images/load",
        "/images/create?fromSrc=-&repo=bomb",
        "/build?t=bomb",
        "/containers/box/archive?path=/",
    ] {
        for head in [&pax, &name] {
            let said = send(&engine, path, head, b"a", 256);
            assert!(
                said.contains(" 400 ") || said.contains("rror"),
                "{path}: {said}"
            );
        }
    }
    let item = br#"{"Config":"c","RepoTags":["a:b"],"Layers":["l"]},"#;
    for file in [
        "manifest.json",
        "index.json",
        "blobs/sha256/x",
        "oci-layout",
    ] {
        let head = header(file, tar::EntryType::Regular, 62 << 20);
        let said = send(&engine, "/images/load", &head, item, 62);
        assert!(
            said.contains(" 400 ") || said.contains("rror"),
            "{file}: {said}"
        );
    }
    for file in ["Dockerfile", ".dockerignore"] {
        let head = header(file, tar::EntryType::Regular, 62 << 20);
        let said = send(&engine, "/build?t=bomb", &head, b"RUN a\n", 62);
        assert!(
            said.contains(" 400 ") || said.contains("rror"),
            "{file}: {said}"
        );
    }
    let grown = peak(&engine) - before;
    assert!(grown < 128 << 10, "{grown} KiB more");
    assert_eq!(
        engine
            .api()
            .call("GET", "/_ping", b"")
            .expect("an answer")
            .status,
        200
    );
}
