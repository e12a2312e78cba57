//! images, tag, rmi, save, load, import, history: images on this machine.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn names_and_removal() {
    let engine = Engine::start(BERTH);
    let id = engine.ok(&["images", "-q", "--no-trunc", "busybox"]);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    engine.ok(&["tag", "busybox", "mine/box:v1"]);
    let listed = engine.ok(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
    let mut lines: Vec<_> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            format!("busybox:latest {}", &id[7..19]),
            format!("mine/box:v1 {}", &id[7..19])
        ]
    );
    assert_eq!(engine.ok(&["rmi", "mine/box:v1"]), "Untagged: mine/box:v1");
    engine.ok(&["create", "--name", "c1", "busybox"]);
    let err = engine.fails(1, &["rmi", "busybox"]);
    assert!(
        err.contains("conflict: unable to remove repository reference \"busybox\" (must force)"),
        "{err}"
    );
    engine.ok(&["rm", "c1"]);
    let removed = engine.ok(&["rmi", "busybox"]);
    assert!(
        removed.starts_with("Untagged: busybox:latest\nDeleted: sha256:"),
        "{removed}"
    );
    assert_eq!(engine.ok(&["images", "-q"]), "");
    let err = engine.fails(1, &["rmi", "busybox"]);
    assert!(err.contains("No such image: busybox:latest"), "{err}");
    let err = engine.fails(1, &["tag", "busybox", "x"]);
    assert!(err.contains("No such image: busybox:latest"), "{err}");
}

#[test]
fn save_and_load_give_the_same_image() {
    let engine = Engine::start(BERTH);
    let id = engine.ok(&["images", "-q", "--no-trunc", "busybox"]);
    let file = engine.path("saved.tar");
    let file = file.to_str().expect("a path");
    engine.ok(&["save", "-o", file, "busybox"]);
    let again = engine.path("again.tar");
    engine.ok(&["save", "-o", again.to_str().expect("a path"), "busybox"]);
    assert!(
        std::fs::read(file).expect("saved") == std::fs::read(&again).expect("saved"),
        "byte-stable"
    );
    engine.ok(&["rmi", "busybox"]);
    let said = engine.ok(&["load", "-i", file]);
    assert_eq!(said, "Loaded image: busybox:latest");
    assert_eq!(engine.ok(&["images", "-q", "--no-trunc", "busybox"]), id);
    assert_eq!(
        engine.ok(&["run", "--rm", "busybox", "echo", "works"]),
        "works"
    );
    let err = engine.fails(1, &["load", "-i", "/etc/passwd"]);
    assert!(!err.is_empty());
}

#[test]
fn import_inspect_history() {
    let engine = Engine::start(BERTH);
    let config = engine.ok(&[
        "inspect",
        "-f",
        "{{json .Config.Cmd}} {{.Os}} {{.Architecture}}",
        "busybox",
    ]);
    assert!(config.starts_with("[\"sh\"] linux "), "{config}");
    let history = engine.ok(&["history", "--format", "{{.Comment}} {{.Size}}", "busybox"]);
    assert!(history.starts_with("Imported from"), "{history}");
    let err = engine.fails(1, &["import", "/no/such/file", "x"]);
    assert!(err.contains("no such file"), "{err}");
}
