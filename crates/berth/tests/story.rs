//! The everyday story to the letter: examples/my-web-app built, run and reached, pushed, pulled and reached again.

use std::path::Path;
use std::process::Command;

use testkit::engine::Engine;
use testkit::http::{free_port, get_when_up};
use testkit::registry::Registry;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn build_run_reach_push_pull_run_reach() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let engine = Engine::start_empty(BERTH, &[]);
    let made = Command::new(root.join("scripts/base-image"))
        .args([BERTH, "python"])
        .env("DOCKER_HOST", engine.host())
        .env("BERTH_STAND_IN", "always")
        .status()
        .expect("scripts/base-image");
    assert!(made.success(), "the base image could not be made");
    let app = root.join("examples/my-web-app");
    let app = app.to_str().expect("a path");
    let built = engine.ok(&["build", "-t", "my-web-app", app]);
    assert!(
        built.ends_with("Successfully tagged my-web-app:latest"),
        "{built}"
    );

    let port = free_port();
    engine.ok(&["run", "-d", "-p", &format!("{port}:5000"), "my-web-app"]);
    assert_eq!(
        get_when_up(([127, 0, 0, 1], port).into(), "/").trim_end(),
        "Hello, World!"
    );

    let Some(registry) = Registry::start() else {
        return;
    };
    let name = format!("{}/my-web-app", registry.host());
    engine.ok(&["tag", "my-web-app", &name]);
    engine.ok(&["push", &name]);
    let other = Engine::start_empty(BERTH, &[]);
    other.ok(&["pull", &name]);
    let port = free_port();
    let id = other.ok(&["create", "-p", &format!("{port}:5000"), &name]);
    other.ok(&["start", &id]);
    assert_eq!(
        get_when_up(([127, 0, 0, 1], port).into(), "/").trim_end(),
        "Hello, World!"
    );
}
