//! `stats`, `top`, `update`, `pause`: a container's use of the machine.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn stats_tell_what_is_used() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "busy",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    ]);
    engine.ok(&["run", "-d", "--name", "idle", "busybox", "sleep", "1000"]);
    let format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}";
    let lines = engine.ok(&["stats", "--no-stream", "--format", format, "busy", "idle"]);
    let fields: Vec<Vec<&str>> = lines.lines().map(|l| l.split('|').collect()).collect();
    let percent = |text: &str| {
        text.trim_end_matches('%')
            .parse::<f64>()
            .expect("a percentage")
    };
    assert!(
        fields[0][0] == "busy" && percent(fields[0][1]) > percent(fields[1][1]),
        "{lines}"
    );
    assert!(fields[0][2].ends_with("/ 64MiB"), "{lines}");
    assert_eq!(fields[1][5], "1");
    let table = engine.ok(&["stats", "--no-stream"]);
    assert!(
        table.starts_with("CONTAINER ID") && table.lines().count() == 3,
        "{table}"
    );
    let err = engine.fails(1, &["stats", "--no-stream", "absent"]);
    assert!(err.contains("No such container: absent"), "{err}");
}

#[test]
fn top_lists_processes() {
    let engine = Engine::start(BERTH);
    engine.ok(&["run", "-d", "--name", "box", "busybox", "sleep", "1234"]);
    let table = engine.ok(&["top", "box"]);
    let mut lines = table.lines();
    let titles: Vec<_> = lines.next().expect("titles").split_whitespace().collect();
    assert_eq!(
        titles,
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    assert!(
        lines.next().expect("a process").ends_with("sleep 1234"),
        "{table}"
    );
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    let table = engine.ok(&["top", "box", "-o", "pid,comm"]);
    let row: Vec<_> = table
        .lines()
        .nth(1)
        .expect("a process")
        .split_whitespace()
        .collect();
    assert_eq!(row, [&*pid, "sleep"]);
    engine.ok(&["kill", "box"]);
    let err = engine.fails(1, &["top", "box"]);
    assert!(err.contains("is not running"), "{err}");
}

#[test]
fn update_changes_a_running_container() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run", "-d", "--name", "box", "-m", "64m", "busybox", "sleep", "1000",
    ]);
    assert_eq!(
        engine.ok(&["update", "-m", "96m", "--restart", "always", "box"]),
        "box"
    );
    let format = "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(
        engine.ok(&["inspect", "-f", format, "box"]),
        format!("{} always", 96 << 20)
    );
    let stats = engine.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "box"]);
    assert!(stats.ends_with("/ 96MiB"), "{stats}");
    let err = engine.fails(1, &["update", "-m", "1g", "box"]);
    assert!(
        err.contains("update the memoryswap at the same time"),
        "{err}"
    );
    engine.ok(&["update", "--restart", "no", "box"]);
    let err = engine.fails(1, &["update", "--restart", "nonsense", "box"]);
    assert!(err.contains("nonsense"), "{err}");
}

#[test]
fn pause_stops_the_clock() {
    let engine = Engine::start(BERTH);
    engine.ok(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
    assert_eq!(engine.ok(&["pause", "box"]), "box");
    assert_eq!(engine.ok(&["ps", "--format", "{{.State}}"]), "paused");
    assert!(
        engine
            .ok(&["ps", "--format", "{{.Status}}"])
            .ends_with("(Paused)")
    );
    let err = engine.fails(1, &["pause", "box"]);
    assert!(err.contains("is already paused"), "{err}");
    let err = engine.fails(1, &["exec", "box", "true"]);
    assert!(
        err.contains("is paused, unpause the container before exec"),
        "{err}"
    );
    let err = engine.fails(1, &["rm", "box"]);
    assert!(
        err.contains("is paused and must be unpaused first"),
        "{err}"
    );
    assert_eq!(engine.ok(&["unpause", "box"]), "box");
    assert_eq!(engine.ok(&["exec", "box", "echo", "again"]), "again");
    let err = engine.fails(1, &["unpause", "box"]);
    assert!(err.contains("is not paused"), "{err}");
    engine.ok(&["pause", "box"]);
    assert_eq!(engine.ok(&["rm", "-f", "box"]), "box");
}
