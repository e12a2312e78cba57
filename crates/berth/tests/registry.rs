//! pull, push, login: against a real registry on loopback.

use testkit::engine::Engine;
use testkit::registry::Registry;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn pushed_by_one_engine_pulled_by_another() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = format!("{}/team/box:v1", registry.host());
    let one = Engine::start(BERTH);
    one.ok(&["tag", "busybox", &name]);
    let pushed = one.ok(&["push", &name]);
    assert!(
        pushed.contains(&format!(
            "The push refers to repository [{}/team/box]",
            registry.host()
        )),
        "{pushed}"
    );
    assert!(
        pushed.contains("Pushed") && pushed.contains("v1: digest: sha256:"),
        "{pushed}"
    );
    let again = one.ok(&["push", &name]);
    assert!(again.contains("Layer already exists"), "{again}");

    let two = Engine::start_empty(BERTH, &[]);
    let pulled = two.ok(&["pull", &name]);
    assert!(
        pulled.contains("Pull complete")
            && pulled.contains(&format!("Status: Downloaded newer image for {name}")),
        "{pulled}"
    );
    assert_eq!(
        two.ok(&["images", "-q", "--no-trunc"]),
        one.ok(&["images", "-q", "--no-trunc", "busybox"])
    );
    assert_eq!(
        two.ok(&["run", "--rm", &name, "echo", "travelled"]),
        "travelled"
    );
    assert!(
        two.ok(&["pull", &name]).contains("Image is up to date"),
        "a second pull fetches nothing"
    );
    let digests = two.ok(&["inspect", "-f", "{{json .RepoDigests}}", &name]);
    assert!(digests.contains("/team/box@sha256:"), "{digests}");

    // `run` of an image that is not here pulls it.
    two.ok(&["rmi", &name]);
    let ran = two.run(&["run", "--rm", &name, "echo", "again"]);
    assert_eq!((ran.code, &*ran.out), (0, "again\n"), "{ran:?}");
    assert!(
        ran.err
            .contains(&format!("Unable to find image '{name}' locally")),
        "{ran:?}"
    );

    let err = two.fails(1, &["pull", &format!("{}/team/box:none", registry.host())]);
    assert!(err.contains("not found"), "{err}");
}

#[test]
fn a_password_is_asked_for_and_kept() {
    let Some(registry) = Registry::start_with_password() else {
        return;
    };
    let engine = Engine::start(BERTH);
    let name = format!("{}/box", registry.host());
    engine.ok(&["tag", "busybox", &name]);
    let err = engine.fails(1, &["push", &name]);
    assert!(
        err.contains("no basic auth credentials")
            || err.contains("authentication required")
            || err.contains("denied"),
        "{err}"
    );
    let ran = engine.run_with_input(
        &["login", "-u", "user", "--password-stdin", &registry.host()],
        b"wrong",
    );
    assert_ne!(ran.code, 0);
    let ran = engine.run_with_input(
        &["login", "-u", "user", "--password-stdin", &registry.host()],
        b"secret",
    );
    assert!(
        ran.code == 0 && ran.out.contains("Login Succeeded"),
        "{ran:?}"
    );
    engine.ok(&["push", &name]);
    engine.ok(&["rmi", &name]);
    engine.ok(&["pull", &name]);
    engine.ok(&["logout", &registry.host()]);
    assert_ne!(engine.run(&["pull", &name]).code, 0);
}

/// `registry-mirror-map` of daemon.json; and Docker's rule of 29.10: loopback needs TLS where registries
/// are named.
#[test]
fn mirrors_by_prefix_and_named_registries() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let one = Engine::start(BERTH);
    let name = format!("{}/cache/box:v1", registry.host());
    one.ok(&["tag", "busybox", &name]);
    one.ok(&["push", &name]);
    let host = registry.host();
    let text = format!(
        r#"{{"registry-mirror-map": {{"quay.invalid/team": ["http://{host}/cache"]}}, "insecure-registries": ["{host}"]}}"#
    );
    let dir = one.dir_with("config", &[("daemon.json", &text)]);
    let file = dir.join("daemon.json").display().to_string();
    let two = Engine::start_empty(BERTH, &["--config-file", &file]);
    let pulled = two.ok(&["pull", "quay.invalid/team/box:v1"]);
    assert!(
        pulled.contains("Downloaded newer image for quay.invalid/team/box:v1"),
        "{pulled}"
    );
    assert_eq!(
        two.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]),
        "quay.invalid/team/box:v1"
    );
    let info = two.ok(&["info"]);
    assert!(!info.contains("127.0.0.0/8"), "{info}");
    // Another port of loopback is not named.
    let other = format!("127.0.0.1:{}/x", testkit::http::free_port());
    let err = two.fails(1, &["pull", &other]);
    assert!(err.contains("https://127.0.0.1"), "{err}");
    assert!(one.ok(&["info"]).contains("127.0.0.0/8"));
}

/// `kept-blobs` of daemon.json: what was pulled is not kept compressed beyond it, and can be run and
/// pushed all the same.
#[test]
fn compressed_layers_are_kept_within_their_budget() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let one = Engine::start(BERTH);
    let name = format!("{}/box:v1", registry.host());
    one.ok(&["tag", "busybox", &name]);
    one.ok(&["push", &name]);
    let text = r#"{"kept-blobs": {"reserved-space": "0", "max-used-space": "0"}}"#;
    let dir = one.dir_with("config", &[("daemon.json", text)]);
    let file = dir.join("daemon.json").display().to_string();
    let two = Engine::start_empty(BERTH, &["--config-file", &file]);
    two.ok(&["pull", &name]);
    let blobs = two.path("data/content/sha256");
    let largest = std::fs::read_dir(blobs)
        .expect("blobs")
        .map(|blob| blob.expect("one").metadata().expect("its size").len())
        .max();
    assert!(largest < Some(100_000), "{largest:?}");
    assert_eq!(two.ok(&["run", "--rm", &name, "echo", "here"]), "here");
    two.ok(&["image", "verify", "-q"]);
    let again = format!("{}/box:v2", registry.host());
    two.ok(&["tag", &name, &again]);
    two.ok(&["push", &again]);
}
