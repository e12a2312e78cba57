//! Rule G: what is secret stays out of the log, also when it tells everything (CVE-2019-13509, CVE-2021-21334).

use std::io::{Read, Write};

use testkit::engine::Engine;

use crate::BERTH;

#[test]
fn the_log_has_no_secrets() {
    const SECRET: &str = "hunter2hunter2";
    let engine = Engine::start_empty(BERTH, &["--debug"]);
    engine.load_busybox();
    let variable = format!("TOKEN={SECRET}");
    engine.ok(&[
        "run", "-d", "--name", "box", "-e", &variable, "busybox", "sleep", "1000",
    ]);
    engine.ok(&["exec", "-e", &variable, "box", "true"]);
    engine.run(&["exec", "-e", &variable, "box", "absent"]);
    engine.run(&["run", "-e", &variable, "busybox", "absent"]);
    let port = testkit::http::free_port();
    engine.run(&[
        "login",
        "-u",
        "me",
        "-p",
        SECRET,
        &format!("127.0.0.1:{port}"),
    ]);
    // {"username":"me","password":"hunter2hunter2"}
    let header = "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJodW50ZXIyaHVudGVyMiJ9";
    for path in [
        format!("/images/create?fromImage=127.0.0.1:{port}/x&tag=y"),
        format!("/images/127.0.0.1:{port}/x/push?tag=y"),
    ] {
        let mut stream = engine.api().connect().expect("a connection");
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nHost: e\r\nX-Registry-Auth: {header}\r\n\r\n"
        )
        .expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an answer");
        assert!(!said.contains(SECRET), "{said}");
    }
    let context = engine.dir_with(
        "context",
        &[("Dockerfile", "FROM busybox\nARG TOKEN\nRUN false\n")],
    );
    let context = context.display().to_string();
    engine.run(&["build", "--build-arg", &variable, &context]);
    let log = std::fs::read_to_string(engine.log()).expect("a log");
    assert!(log.contains("DEBUG"), "{log}");
    for text in [SECRET, header] {
        let line = log.lines().find(|line| line.contains(text));
        assert_eq!(line, None);
    }
}
