//! create, start, stop, kill, wait, rm, ps: a container's life.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn from_create_to_rm() {
    let engine = Engine::start(BERTH);
    let id = engine.ok(&["create", "--name", "web", "busybox", "sleep", "1000"]);
    assert_eq!(id.len(), 64);
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.State.Status}}", "web"]),
        "created"
    );
    assert_eq!(engine.ok(&["start", "web"]), "web");
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.State.Running}} {{.Name}}", &id[..12]]),
        "true /web"
    );
    let err = engine.fails(1, &["rm", "web"]);
    assert!(
        err.contains("cannot remove container") && err.contains("container is running"),
        "{err}"
    );
    let err = engine.fails(1, &["create", "--name", "web", "busybox"]);
    assert!(err.contains("is already in use by container"), "{err}");
    assert_eq!(engine.ok(&["stop", "web"]), "web");
    assert_eq!(
        engine.ok(&[
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.ExitCode}}",
            "web"
        ]),
        "exited 137"
    );
    assert_eq!(engine.ok(&["ps", "-q"]), "");
    assert_eq!(engine.ok(&["ps", "-aq", "--no-trunc"]), id);
    assert_eq!(engine.ok(&["rm", "web"]), "web");
    let err = engine.fails(1, &["inspect", "web"]);
    assert!(err.contains("No such object: web"), "{err}");
    let err = engine.fails(1, &["start", "web"]);
    assert!(err.contains("No such container: web"), "{err}");
}

#[test]
fn signals_and_waiting() {
    let engine = Engine::start(BERTH);
    let script = "trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 1 & wait; done";
    engine.ok(&["run", "-d", "--name", "t1", "busybox", "sh", "-c", script]);
    testkit::wait::until("the trap", || {
        (engine.ok(&["logs", "t1"]) == "ready").then_some(())
    });
    engine.ok(&["kill", "-s", "TERM", "t1"]);
    assert_eq!(engine.ok(&["wait", "t1"]), "7");
    assert_eq!(engine.ok(&["logs", "t1"]), "ready\ngot");
    let err = engine.fails(1, &["kill", "t1"]);
    assert!(err.contains("is not running"), "{err}");
    let err = engine.fails(1, &["kill", "-s", "NONSENSE", "t1"]);
    assert!(err.contains("nvalid signal"), "{err}");
}

#[test]
fn ps_shows_what_docker_shows() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run", "-d", "--name", "one", "--label", "k=v", "busybox", "sleep", "1000",
    ]);
    assert_eq!(
        engine
            .run(&["run", "--name", "two", "busybox", "sh", "-c", "exit 4"])
            .code,
        4
    );
    let format = "{{.Names}} {{.Image}} {{.State}} {{.Command}} {{.Label \"k\"}}";
    assert_eq!(
        engine.ok(&["ps", "--format", format]),
        "one busybox running \"sleep 1000\" v"
    );
    let all = engine.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    let two = all
        .lines()
        .find(|l| l.starts_with("two"))
        .expect("two is listed");
    assert!(two.starts_with("two Exited (4) "), "{two}");
    assert!(all.lines().any(|l| l.starts_with("one Up ")), "{all}");
    let table = engine.ok(&["ps"]);
    let header: Vec<_> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split("   ")
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(
        header,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    assert_eq!(engine.ok(&["ps", "-aq", "--filter", "exited=4"]).len(), 12);
    assert_eq!(
        engine
            .ok(&["ps", "-aq", "--filter", "label=k=v"])
            .lines()
            .count(),
        1
    );
}

#[test]
fn restart_policy_and_auto_remove() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo x; exit 1",
    ]);
    assert_eq!(engine.ok(&["wait", "again"]), "1");
    testkit::wait::until("two restarts", || {
        (engine.ok(&[
            "inspect",
            "-f",
            "{{.RestartCount}} {{.State.Status}}",
            "again",
        ]) == "2 exited")
            .then_some(())
    });
    assert_eq!(engine.ok(&["logs", "again"]), "x\nx\nx");
    engine.ok(&["run", "-d", "--rm", "--name", "gone", "busybox", "true"]);
    testkit::wait::until("auto-remove", || {
        engine
            .ok(&["ps", "-aq", "--filter", "name=gone"])
            .is_empty()
            .then_some(())
    });
}
