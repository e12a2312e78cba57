//! `berth registry serve`: images go in and come out again, by berth and by Docker's client.

use std::process::Command;

use testkit::engine::{Engine, ran};
use testkit::served::Served;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn what_one_engine_pushes_another_pulls_also_after_a_crash() {
    let mut registry = Served::start(BERTH, &[]);
    let name = format!("{}/team/box:v1", registry.host());
    let one = Engine::start(BERTH);
    one.ok(&["tag", "busybox", &name]);
    let pushed = one.ok(&["push", &name]);
    assert!(pushed.contains("v1: digest: sha256:"), "{pushed}");
    let again = one.ok(&["push", &name]);
    assert!(again.contains("Layer already exists"), "{again}");
    // Another repository gets the layer without its bytes travelling again.
    let other = format!("{}/team/other:v1", registry.host());
    one.ok(&["tag", "busybox", &other]);
    let mounted = one.ok(&["push", &other]);
    assert!(mounted.contains("Mounted from team/box"), "{mounted}");

    registry.kill();
    registry.launch();
    let two = Engine::start_empty(BERTH, &[]);
    for name in [&name, &other] {
        two.ok(&["pull", name]);
        assert_eq!(
            two.ok(&["run", "--rm", name, "echo", "travelled"]),
            "travelled"
        );
    }
    assert_eq!(registry.terminate(), Some(0));
}

#[test]
fn dockers_client_is_served() {
    let registry = Served::start(BERTH, &[]);
    let name = format!("{}/box:v1", registry.host());
    let engine = Engine::start(BERTH);
    if engine.docker_ok(&["tag", "busybox", &name]).is_none() {
        return;
    }
    engine.docker_ok(&["push", &name]);
    engine.docker_ok(&["rmi", &name]);
    engine.docker_ok(&["pull", &name]);
    engine.docker_ok(&["manifest", "inspect", "--insecure", &name]);
}

#[test]
fn one_process_has_a_root_and_mistakes_are_named() {
    let registry = Served::start(BERTH, &[]);
    let root = registry.dir().join("root");
    let serve = |args: &[&str]| {
        let mut command = Command::new(BERTH);
        command.args(["registry", "serve", "--addr", "127.0.0.1:0"]);
        ran(command.args(args), None)
    };
    let second = serve(&["--root", &root.display().to_string()]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains("another registry uses"), "{second:?}");

    let file = registry.dir().join("config.json");
    std::fs::write(&file, r#"{"read-olny": true}"#).expect("a file");
    let wrong = serve(&["--config", &file.display().to_string()]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains("unknown field `read-olny`"), "{wrong:?}");
    assert_eq!(serve(&["--prot", "1"]).code, 125);
}
