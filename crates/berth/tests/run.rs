//! `berth run`: output, exit codes, what the container sees, what is left.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn output_and_exit_codes() {
    let engine = Engine::start(BERTH);
    let ran = engine.run(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 3",
    ]);
    assert_eq!((ran.code, &*ran.out, &*ran.err), (3, "out\n", "err\n"));
    assert_eq!(
        engine.ok(&["run", "--rm", "busybox", "echo", "hello"]),
        "hello"
    );

    // The first process of a PID namespace does not see its own signal; a child does.
    let ran = engine.run(&["run", "--rm", "busybox", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let child = "sh -c 'kill -TERM $$'; exit $?";
    let ran = engine.run(&["run", "--rm", "busybox", "sh", "-c", child]);
    assert_eq!(ran.code, 128 + 15, "{}", ran.err);
    let err = engine.fails(127, &["run", "--rm", "busybox", "no-such-program"]);
    assert!(err.contains("executable file not found in $PATH"), "{err}");
    let err = engine.fails(126, &["run", "--rm", "busybox", "/etc/passwd"]);
    assert!(err.contains("permission denied"), "{err}");
    assert_eq!(engine.ok(&["ps", "-aq"]), "", "--rm leaves nothing");
}

#[test]
fn standard_input_reaches_the_container() {
    let engine = Engine::start(BERTH);
    let ran = engine.run_with_input(
        &["run", "--rm", "-i", "busybox", "wc", "-c"],
        &[b'x'; 300_000],
    );
    assert_eq!((ran.code, ran.out.trim()), (0, "300000"), "{}", ran.err);
    let ran = engine.run_with_input(&["run", "--rm", "-i", "busybox", "cat"], b"one\ntwo\n");
    assert_eq!(ran.out, "one\ntwo\n");
}

#[test]
fn the_container_is_what_the_flags_say() {
    let engine = Engine::start(BERTH);
    let ok = |args: &[&str]| engine.ok(&[&["run", "--rm"], args].concat());
    assert_eq!(
        ok(&["-e", "A=1", "-e", "B", "busybox", "sh", "-c", "echo $A-$B"]),
        "1-"
    );
    assert_eq!(ok(&["-w", "/some/where", "busybox", "pwd"]), "/some/where");
    assert_eq!(ok(&["--hostname", "box", "busybox", "hostname"]), "box");
    assert_eq!(ok(&["-u", "alice", "busybox", "id", "-u"]), "1000");
    assert_eq!(ok(&["-u", "1000:50", "busybox", "id", "-g"]), "50");
    assert_eq!(ok(&["--entrypoint", "echo", "busybox", "hi"]), "hi");
    assert_eq!(ok(&["busybox", "sh", "-c", "echo $$"]), "1");
    assert_eq!(
        ok(&[
            "--tmpfs",
            "/t:size=1m",
            "busybox",
            "sh",
            "-c",
            "df /t | tail -1 | awk '{print $2}'"
        ]),
        "1024"
    );
    let err = engine.fails(1, &["run", "--rm", "--read-only", "busybox", "touch", "/x"]);
    assert!(err.contains("Read-only file system"), "{err}");
    let name = ok(&["busybox", "hostname"]);
    assert_eq!(
        name.len(),
        12,
        "the short ID is the default host name: {name}"
    );
    let interfaces = ok(&["--network", "none", "busybox", "ls", "/sys/class/net"]);
    assert_eq!(interfaces, "lo");
}

#[test]
fn the_container_is_bounded_and_stripped() {
    let engine = Engine::start(BERTH);
    let ok = |args: &[&str]| engine.ok(&[&["run", "--rm"], args].concat());
    let status = ok(&[
        "busybox",
        "grep",
        "-E",
        "^(CapEff|CapInh|CapAmb|Seccomp|NoNewPrivs):",
        "/proc/self/status",
    ]);
    // Docker's fourteen; the inheritable and ambient sets are empty.
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    assert!(status.contains("CapInh:\t0000000000000000"), "{status}");
    assert!(status.contains("CapAmb:\t0000000000000000"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let dropped = ok(&[
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_RAW",
        "busybox",
        "grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert!(dropped.ends_with("0000000000002000"), "{dropped}");
    // Masked and read-only paths.
    assert_eq!(
        ok(&[
            "busybox",
            "sh",
            "-c",
            "cat /proc/timer_list /proc/keys | wc -c"
        ]),
        "0"
    );
    let err = engine.fails(
        1,
        &[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo 1 > /proc/sys/kernel/hostname",
        ],
    );
    assert!(err.contains("Read-only file system"), "{err}");
    let err = engine.fails(
        1,
        &[
            "run", "--rm", "busybox", "mount", "-t", "tmpfs", "t", "/tmp",
        ],
    );
    assert!(err.contains("denied") || err.contains("permitted"), "{err}");
    // Only standard descriptors; `ls` itself holds the directory.
    assert_eq!(
        ok(&["busybox", "sh", "-c", "ls /proc/self/fd | wc -l"]),
        "4"
    );
}

#[test]
fn limits_are_the_kernels() {
    let engine = Engine::start(BERTH);
    let ran = engine.run(&[
        "run",
        "--name",
        "big",
        "-m",
        "32m",
        "busybox",
        "sh",
        "-c",
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=64 2>/dev/null; tail /dev/zero",
    ]);
    assert_eq!(ran.code, 137, "{} {}", ran.out, ran.err);
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.State.OOMKilled}}", "big"]),
        "true"
    );
    let ran = engine.run(&[
        "run",
        "--rm",
        "--pids-limit",
        "8",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo done",
    ]);
    assert!(
        ran.err.contains("can't fork") || ran.code != 0,
        "{} {}",
        ran.out,
        ran.err
    );
}

#[test]
fn volumes_and_binds() {
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("shared", &[("hello", "from the host")]);
    let bind = format!("{}:/data", dir.display());
    assert_eq!(
        engine.ok(&["run", "--rm", "-v", &bind, "busybox", "cat", "/data/hello"]),
        "from the host"
    );
    let read_only = format!("{bind}:ro");
    let err = engine.fails(
        1,
        &[
            "run", "--rm", "-v", &read_only, "busybox", "touch", "/data/x",
        ],
    );
    assert!(err.contains("Read-only file system"), "{err}");
    engine.ok(&[
        "run",
        "--rm",
        "-v",
        "named:/v",
        "busybox",
        "sh",
        "-c",
        "echo kept > /v/f",
    ]);
    assert_eq!(
        engine.ok(&["run", "--rm", "-v", "named:/v", "busybox", "cat", "/v/f"]),
        "kept"
    );
    let err = engine.fails(
        125,
        &[
            "run",
            "--rm",
            "--mount",
            "type=bind,source=/no/such/dir,target=/x",
            "busybox",
            "true",
        ],
    );
    assert!(
        err.contains("bind source path does not exist: /no/such/dir"),
        "{err}"
    );
}

#[test]
fn bad_input_is_125_and_leaves_nothing() {
    let engine = Engine::start(BERTH);
    for (args, says) in [
        (
            &["run", "--no-such-flag", "busybox"][..],
            "unknown flag: --no-such-flag",
        ),
        (
            &["run", "--name", "bad name", "busybox", "true"][..],
            "Invalid container name",
        ),
        (
            &["run", "-m", "1k", "busybox", "true"][..],
            "Minimum memory limit allowed is 6MB",
        ),
        (&["run", "-p", "99999:80", "busybox", "true"][..], "99999"),
        (
            &["run", "--cap-add", "NONSENSE", "busybox", "true"][..],
            "unknown capability",
        ),
        (
            &["run", "-u", "nobody-here", "busybox", "true"][..],
            "unable to find user nobody-here",
        ),
        (
            &["run", "--network", "nowhere", "busybox", "true"][..],
            "nowhere",
        ),
        (&["run", "Bad/Name", "true"][..], "must be lowercase"),
        (&["run"][..], "requires at least 1 argument"),
    ] {
        let ran = engine.run(args);
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    }
    assert_eq!(engine.ok(&["ps", "-aq", "--filter", "status=running"]), "");
}
