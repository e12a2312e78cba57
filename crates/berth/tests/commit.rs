//! `commit`, `diff` and `export`: what a container wrote.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");
const MEDDLE: &str = "echo new > /new; rm /etc/group; echo x >> /etc/passwd; mkdir /dir";

#[test]
fn diff_shows_what_changed() {
    let engine = Engine::start(BERTH);
    engine.ok(&["run", "--name", "box", "busybox", "sh", "-c", MEDDLE]);
    assert_eq!(
        engine
            .ok(&["diff", "box"])
            .lines()
            .collect::<std::collections::BTreeSet<_>>(),
        [
            "A /dir",
            "A /new",
            "C /etc",
            "C /etc/passwd",
            "D /etc/group"
        ]
        .into(),
    );
    engine.ok(&[
        "run",
        "--name",
        "plain",
        "-v",
        "vv:/v",
        "-v",
        "/tmp:/host",
        "--tmpfs",
        "/t",
        "busybox",
        "true",
    ]);
    let made = engine.ok(&["diff", "plain"]);
    assert!(!made.contains("/proc") && !made.contains("/etc"), "{made}");
}

#[test]
fn an_image_of_a_container() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run", "--name", "box", "-e", "A=1", "-w", "/tmp", "busybox", "sh", "-c", MEDDLE,
    ]);
    let id = engine.ok(&[
        "commit",
        "-a",
        "A. Uthor",
        "-m",
        "why",
        "-c",
        "ENV B=2",
        "-c",
        "CMD [\"cat\", \"/new\"]",
        "-c",
        "LABEL k=v",
        "box",
        "made:one",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(engine.ok(&["run", "--rm", "made:one"]), "new");
    let env = engine.ok(&[
        "run",
        "--rm",
        "made:one",
        "sh",
        "-c",
        "echo $A$B; pwd; test ! -e /etc/group",
    ]);
    assert_eq!(env, "12\n/tmp");
    let format = "{{.Author}}|{{.Comment}}|{{index .Config.Labels \"k\"}}";
    assert_eq!(
        engine.ok(&["inspect", "-f", format, "made:one"]),
        "A. Uthor|why|v"
    );
    let err = engine.fails(1, &["commit", "absent"]);
    assert!(err.contains("No such container: absent"), "{err}");
    let err = engine.fails(1, &["commit", "-c", "RUN x", "box"]);
    assert!(err.contains("RUN"), "{err}");
    // While it runs; it goes on afterwards.
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "live",
        "busybox",
        "sh",
        "-c",
        "echo live > /live; touch /ready; sleep 1000",
    ]);
    testkit::wait::until("the file", || {
        (engine.run(&["exec", "live", "test", "-e", "/ready"]).code == 0).then_some(())
    });
    engine.ok(&["commit", "live", "made:two"]);
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.State.Status}}", "live"]),
        "running"
    );
    assert_eq!(
        engine.ok(&["run", "--rm", "made:two", "cat", "/live"]),
        "live"
    );
}

#[test]
fn the_root_as_a_tar() {
    let engine = Engine::start(BERTH);
    let script = "echo new > /new; rm /etc/group; touch /ready; sleep 1000";
    engine.ok(&[
        "run", "-d", "--name", "box", "-v", "vv:/vol", "busybox", "sh", "-c", script,
    ]);
    testkit::wait::until("the file", || {
        (engine.run(&["exec", "box", "test", "-e", "/ready"]).code == 0).then_some(())
    });
    engine.ok(&["exec", "box", "touch", "/vol/not-exported"]);
    for _ in ["running", "at rest"] {
        let tar = engine.path("root.tar").display().to_string();
        engine.ok(&["export", "-o", &tar, "box"]);
        let list = std::process::Command::new("tar")
            .args(["-tf", &tar])
            .output()
            .expect("tar");
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let has = |name: &str| list.lines().any(|l| l.trim_end_matches('/') == name);
        assert!(
            has("new") && has("etc/passwd") && !has("etc/group"),
            "{list}"
        );
        assert!(!has("vol/not-exported") && !has("proc/self"), "{list}");
        engine.ok(&["import", &tar, "again"]);
        assert_eq!(engine.ok(&["run", "--rm", "again", "cat", "/new"]), "new");
        engine.run(&["kill", "box"]);
    }
}
