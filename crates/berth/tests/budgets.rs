//! Budgets of daemon.json: what could be had again goes when there is too much of it.

use testkit::engine::Engine;
use testkit::registry::Registry;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// An image of its own name with 3 MB that no other image has.
fn push(engine: &Engine, registry: &Registry, name: &str) -> String {
    let full = format!("{}/{name}:v1", registry.host());
    let text: String = (0..500_000).map(|n| format!("{n:06x}")).collect();
    let text = format!("{name}{text}");
    let dir = engine.dir_with(
        name,
        &[("Dockerfile", "FROM scratch\nCOPY f /f\n"), ("f", &text)],
    );
    engine.ok(&["build", "-q", "-t", &full, &dir.display().to_string()]);
    engine.ok(&["push", "-q", &full]);
    full
}

fn configured(engine: &Engine, text: &str) -> Engine {
    let dir = engine.dir_with("config", &[("daemon.json", text)]);
    let file = dir.join("daemon.json").display().to_string();
    Engine::start_empty(BERTH, &["--config-file", &file])
}

/// `unused-images`: the longest unused go first; not what a container was made from, and not what was
/// never in a registry.
#[test]
fn unused_images_are_kept_within_their_budget() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let one = Engine::start(BERTH);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| push(&one, &registry, name));
    let two = configured(
        &one,
        r#"{"unused-images": {"max-used-space": "7MB", "keep-duration": "0s"}}"#,
    );
    let names = || {
        let listed = two.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    two.load_busybox();
    for name in [&a, &b] {
        two.ok(&["pull", "-q", name]);
    }
    // A container holds the oldest; busybox came from no registry.
    two.ok(&["create", "--name", "holds", &a, "/f"]);
    two.ok(&["pull", "-q", &c]);
    let mut expected = vec![a.clone(), b.clone(), c.clone(), "busybox:latest".to_owned()];
    expected.sort();
    assert_eq!(names(), expected);
    // Of what is unused, b has not been touched for the longest time.
    two.ok(&["pull", "-q", &d]);
    let mut expected = vec![a.clone(), c.clone(), d.clone(), "busybox:latest".to_owned()];
    expected.sort();
    assert_eq!(names(), expected);
    // Let go of, but used later than the others.
    two.ok(&["rm", "holds"]);
    two.ok(&["pull", "-q", &b]);
    two.ok(&["image", "verify", "-q"]);
    assert_eq!(names().len(), 3, "{:?}", names());
    assert!(names().contains(&b), "{:?}", names());
}

#[test]
fn a_mistake_is_told() {
    let one = Engine::start_empty(BERTH, &[]);
    let dir = one.dir_with(
        "config",
        &[("daemon.json", r#"{"unused-images": {"max": "1"}}"#)],
    );
    let ran = testkit::engine::ran(
        std::process::Command::new(BERTH)
            .args(["engine", "--validate", "--config-file"])
            .arg(dir.join("daemon.json")),
        None,
    );
    assert!(
        ran.code != 0 && ran.err.contains("unknown field `max`"),
        "{ran:?}"
    );
}
