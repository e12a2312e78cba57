//! `--init`: berth's own, and a program of the host's.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn it_is_berths_own() {
    let engine = Engine::start(BERTH);
    let run = |args: &[&str]| engine.run(&[&["run", "--rm", "--init"], args].concat());
    assert_eq!(run(&["busybox", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(run(&["busybox", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(run(&["busybox", "no-such-program"]).code, 127);
    let seen = run(&[
        "busybox",
        "sh",
        "-c",
        "echo $$ $PPID; cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline",
    ]);
    let mut lines = seen.out.lines();
    assert_eq!(lines.next(), Some("2 1"), "{}", seen.err);
    assert_eq!(lines.next(), Some("docker-init"));
    let shown = lines.next().unwrap_or_default();
    assert!(shown.starts_with("/sbin/docker-init -- sh -c"), "{shown}");
    // As another user, with a terminal, without rights.
    let seen = run(&[
        "-t",
        "-u",
        "1000",
        "--cap-drop",
        "ALL",
        "busybox",
        "sh",
        "-c",
        "id -u; tty; exit 4",
    ]);
    assert_eq!((seen.code, &*seen.out), (4, "1000\r\n/dev/pts/0\r\n"));
    assert_eq!(
        engine.ok(&["info", "--format", "{{.InitBinary}}"]),
        "docker-init"
    );
}

#[test]
fn orphans_are_taken_in_and_signals_handed_on() {
    let engine = Engine::start(BERTH);
    let script = "(sleep 0.1 &); trap 'exit 6' TERM; \
        while ps -o stat,comm | grep sleep; do sleep 0.02; done >/dev/null; echo clean; \
        while :; do sleep 1 & wait; done";
    let id = engine.ok(&["run", "-d", "--init", "busybox", "sh", "-c", script]);
    testkit::wait::until("no zombie to be left", || {
        (engine.ok(&["logs", &id]) == "clean").then_some(())
    });
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.HostConfig.Init}}", &id]),
        "true"
    );
    let top = engine.ok(&["top", &id, "-o", "pid,comm"]);
    assert!(top.contains("docker-init"), "{top}");
    assert_eq!(engine.ok(&["stop", "-t", "60", &id]), id);
    assert_eq!(engine.ok(&["wait", &id]), "6");
    // A program that handles no signal ends by it, where without init it would not.
    let id = engine.ok(&["run", "-d", "--init", "busybox", "sleep", "1000"]);
    engine.ok(&["kill", "-s", "USR1", &id]);
    assert_eq!(engine.ok(&["wait", &id]), "138");
    // It is there for what is run besides.
    let id = engine.ok(&["run", "-d", "--init", "busybox", "sleep", "1000"]);
    assert_eq!(
        engine.ok(&["exec", &id, "cat", "/proc/1/comm"]),
        "docker-init"
    );
    engine.ok(&["rm", "-f", &id]);
}

#[test]
fn in_the_hosts_pids_it_is_no_first_process() {
    let engine = Engine::start(BERTH);
    let script = "cat /proc/$PPID/comm; (sleep 0.05 &); exit 5";
    let ran = engine.run(&[
        "run", "--rm", "--init", "--pid", "host", "busybox", "sh", "-c", script,
    ]);
    assert_eq!((ran.code, &*ran.out), (5, "docker-init\n"), "{}", ran.err);
    let id = engine.ok(&[
        "run", "-d", "--init", "--pid", "host", "busybox", "sleep", "54321",
    ]);
    assert_eq!(testkit::proc::with_arguments(&["sleep", "54321"]).len(), 1);
    engine.ok(&["rm", "-f", &id]);
    assert!(testkit::proc::with_arguments(&["sleep", "54321"]).is_empty());
}

#[test]
fn the_engine_may_say_so_for_all() {
    let engine = Engine::start_empty(BERTH, &["--init"]);
    engine.load_busybox();
    assert_eq!(
        engine.ok(&["run", "--rm", "busybox", "cat", "/proc/1/comm"]),
        "docker-init"
    );
    let own = [
        "run",
        "--rm",
        "--init=false",
        "busybox",
        "cat",
        "/proc/1/comm",
    ];
    assert_eq!(engine.ok(&own), "cat");
}

#[test]
fn a_program_of_the_host_may_be_named() {
    let Some(tini) = testkit::find_command("tini-static") else {
        return testkit::skipped("no tini-static");
    };
    let path = tini.display().to_string();
    let engine = Engine::start_empty(BERTH, &["--init-path", &path]);
    engine.load_busybox();
    assert_eq!(engine.ok(&["info", "--format", "{{.InitBinary}}"]), path);
    let script = "readlink /proc/1/exe; tr '\\0' ' ' < /proc/1/cmdline";
    let seen = engine.ok(&["run", "--rm", "--init", "busybox", "sh", "-c", script]);
    assert!(
        seen.starts_with("/sbin/docker-init\n/sbin/docker-init -- sh -c"),
        "{seen}"
    );
    // It takes signals one by one, which does not show in its masks.
    let script = "trap 'exit 6' TERM; echo ready; while :; do sleep 1 & wait; done";
    let id = engine.ok(&["run", "-d", "--init", "busybox", "sh", "-c", script]);
    testkit::wait::until("it to be ready", || {
        (engine.ok(&["logs", &id]) == "ready").then_some(())
    });
    engine.ok(&["stop", "-t", "60", &id]);
    assert_eq!(engine.ok(&["wait", &id]), "6");

    let engine = Engine::start_empty(BERTH, &["--init-path", "/no/such/init"]);
    engine.load_busybox();
    let err = engine.fails(125, &["run", "--rm", "--init", "busybox", "true"]);
    assert!(err.contains("/no/such/init"), "{err}");
}
