//! `--runtime`, `--add-runtime`: containers run by other OCI runtimes, supervised as all are.

use std::path::Path;

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// An engine that knows a runtime of this machine as `other`; none where it is not there, or does not
/// take this machine's cgroups.
fn engine_with(program: &str) -> Option<Engine> {
    let Some(path) = testkit::find_command(program) else {
        testkit::skipped(&format!("{program} is not on this machine"));
        return None;
    };
    let add = format!("other={}", path.display());
    let engine = Engine::start_empty(BERTH, &["--add-runtime", &add]);
    engine.load_busybox();
    let tried = engine.run_line("run --rm --network none --runtime other busybox true");
    if tried.code == 125 && tried.err.contains("cgroup") {
        testkit::skipped(&format!("{program} does not work here: {}", tried.err));
        return None;
    }
    assert_eq!(tried.code, 0, "{}", tried.err);
    Some(engine)
}

#[test]
fn runc_runs_containers() {
    if let Some(engine) = engine_with("runc") {
        whole_life(&engine);
    }
}

#[test]
fn crun_runs_containers() {
    if let Some(engine) = engine_with("crun") {
        whole_life(&engine);
    }
}

fn whole_life(engine: &Engine) {
    let run = |line: &str| engine.run_line(&format!("run --rm --runtime other {line}"));
    // Streams, exit codes, errors of programs.
    let ran = run("busybox sh -c 'echo out; echo err >&2; exit 3'");
    assert_eq!((ran.code, &*ran.out, &*ran.err), (3, "out\n", "err\n"));
    let ran = run("busybox no-such-program");
    assert_eq!(ran.code, 127, "{}", ran.err);
    assert!(
        ran.err
            .contains("exec: \"no-such-program\": executable file not found in $PATH"),
        "{}",
        ran.err
    );
    assert_eq!(run("busybox /etc/passwd").code, 126);
    let ran = engine.run_with_input(
        &[
            "run",
            "--rm",
            "-i",
            "--runtime",
            "other",
            "busybox",
            "wc",
            "-c",
        ],
        &[b'x'; 300_000],
    );
    assert_eq!((ran.code, ran.out.trim()), (0, "300000"), "{}", ran.err);
    let ran = run("-t busybox tty");
    assert_eq!((ran.code, ran.out.trim()), (0, "/dev/pts/0"), "{}", ran.err);
    // What a container is.
    let dir = engine.dir_with("shared", &[("file", "from the host")]);
    engine.line("volume create data");
    let ran = run(&format!(
        "-v {}:/shared:ro -v data:/data --mount type=image,source=busybox,target=/image \
         --tmpfs /t --hostname box -u 1000:50 -m 64m --sysctl net.core.somaxconn=77 busybox sh -c \
         'cat /shared/file; ls /image/bin/sh; hostname; id -u; cat /proc/sys/net/core/somaxconn; grep Seccomp: /proc/self/status'",
        dir.display()
    ));
    assert_eq!(
        ran.out.lines().collect::<Vec<_>>(),
        [
            "from the host/image/bin/sh",
            "box",
            "1000",
            "77",
            "Seccomp:\t2"
        ],
        "{}",
        ran.err
    );
    assert_eq!(
        engine.line("ps -aq"),
        "",
        "nothing is left of those with --rm"
    );
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let of_theirs = |line: &&str| line.contains("/bundle/");
    assert_eq!(mounts.lines().find(of_theirs), None);

    // It lives on while the engine is away.
    engine.line(
        "run -d --name c1 --runtime other -m 64m busybox sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'",
    );
    assert_eq!(
        engine.line("inspect -f {{.HostConfig.Runtime}} c1"),
        "other"
    );
    assert_eq!(engine.line("exec c1 sh -c 'echo in; exit 0'"), "in");
    assert_eq!(engine.run_line("exec c1 sh -c 'exit 5'").code, 5);
    let ran = engine.run_line("exec c1 nope");
    assert_eq!(ran.code, 127);
    let told = ran.out + &ran.err;
    assert!(told.contains("executable file not found"), "{told}");
    let cgroup = engine.line("exec c1 cat /proc/1/cgroup");
    assert!(!cgroup.is_empty());
    engine.line("update -m 48m c1");
    let limit = "exec c1 sh -c 'cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes'";
    let cgroup_shown = engine.run_line(limit);
    if cgroup_shown.code == 0 {
        assert_eq!(cgroup_shown.out.trim(), "50331648");
    }
    assert!(engine.line("top c1").contains("sleep"));
    engine.line("pause c1");
    assert_eq!(engine.line("inspect -f {{.State.Status}} c1"), "paused");
    engine.line("unpause c1");
    engine.line("stop c1");
    assert_eq!(engine.line("inspect -f {{.State.ExitCode}} c1"), "7");
    engine.line("start c1");
    engine.line("rm -f c1");
}

#[test]
fn a_container_of_another_runtime_outlives_the_engine() {
    let Some(mut engine) = engine_with("runc") else {
        return;
    };
    engine.line("run -d --name c1 --runtime other busybox sh -c 'echo one; sleep 1000'");
    let pid = "inspect -f {{.State.Pid}} c1";
    let before = engine.line(pid);
    engine.kill();
    engine.launch();
    assert_eq!(engine.line(pid), before);
    assert_eq!(engine.line("logs c1"), "one");
    assert_eq!(engine.line("exec c1 echo two"), "two");
    engine.line("kill c1");
    assert_eq!(engine.line("inspect -f {{.State.ExitCode}} c1"), "137");
}

#[test]
fn runtimes_are_found_by_name() {
    let engine = Engine::start_empty(
        BERTH,
        &[
            "--add-runtime",
            "gone=/no/such/runtime",
            "--default-runtime",
            "berth",
        ],
    );
    engine.load_busybox();
    let err = engine.line_fails(125, "run --rm --runtime bogus busybox true");
    assert!(
        err.contains("unknown or invalid runtime name: bogus"),
        "{err}"
    );
    let err = engine.line_fails(125, "run --rm --runtime gone busybox true");
    assert!(
        err.contains("the runtime gone is not there: /no/such/runtime"),
        "{err}"
    );
    // What clients send for "the default one".
    assert_eq!(engine.line("run --rm --runtime runc busybox echo hi"), "hi");
    let info = engine.line(
        "info --format '{{.DefaultRuntime}} {{range $name, $r := .Runtimes}}{{$name}} {{end}}'",
    );
    assert_eq!(info.trim(), "berth berth gone runc");
    if Path::new("/usr/bin/crun").exists() {
        let err = engine.run_line("run --rm --runtime crun busybox true").err;
        assert!(!err.contains("unknown or invalid runtime name"), "{err}");
    }
}
