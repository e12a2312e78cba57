//! Docker's library for Python against berth's socket.

use std::process::Command;

use testkit::engine::{Engine, ran};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A Python that has the library.
fn python() -> Option<Command> {
    let has = |name: &str| {
        Command::new(name)
            .args(["-c", "import docker; docker.DockerClient"])
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(|p| has(p));
    if found.is_none() {
        testkit::skipped("Python has no module docker (apt-get install python3-docker)");
    }
    found.map(Command::new)
}

#[test]
fn what_programs_do_with_it() {
    let Some(mut python) = python() else { return };
    let engine = Engine::start(BERTH);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_py/suite.py");
    let done = ran(python.args([script, &engine.host()]), None);
    assert_eq!(done.code, 0, "{}\n{}", done.out, done.err);
}
