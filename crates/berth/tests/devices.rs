//! `--device`, `--device-cgroup-rule`, `--privileged`: which devices are there, and what may be done with
//! them.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn devices_are_there_as_far_as_they_are_given() {
    let engine = Engine::start(BERTH);
    let run = |line: &str| engine.run_line(&format!("run --rm --network none {line}"));
    // Docker's own set.
    let own = run("busybox sh -c 'echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls /dev'");
    assert!(own.out.starts_with("3\n"), "{own:?}");
    for name in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm",
    ] {
        assert!(own.out.lines().any(|l| l == name), "{name}: {}", own.out);
    }
    // One of the host's, under another name, to be read only.
    let ran =
        run("--device /dev/kmsg:/dev/log0:r busybox sh -c 'ls -l /dev/log0; echo x > /dev/log0'");
    assert!(
        ran.out.contains("1,  11") || ran.out.contains("1, 11"),
        "{ran:?}"
    );
    assert!(ran.err.contains("Operation not permitted"), "{ran:?}");
    // A node that somebody makes inside works where a rule lets it.
    let script = "mknod /dev/k c 10 229; head -c 0 /dev/k && echo open";
    if !std::path::Path::new("/dev/fuse").exists() {
        return testkit::skipped("this kernel has no FUSE");
    }
    let refused = run(&format!("busybox sh -c '{script}'"));
    assert!(
        refused.err.contains("Operation not permitted"),
        "{refused:?}"
    );
    let allowed = engine.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--device-cgroup-rule",
        "c 10:229 rwm",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(allowed.out, "open\n", "{allowed:?}");
    // All of them.
    let all = run("--privileged busybox sh -c 'ls /dev | wc -l'");
    let own: usize = run("busybox sh -c 'ls /dev | wc -l'")
        .out
        .trim()
        .parse()
        .expect("a number");
    assert!(all.out.trim().parse::<usize>().expect("a number") > own);
    for (flags, code, words) in [
        (
            "--device /dev/nope",
            127,
            "error gathering device information while adding custom device \"/dev/nope\": no such file or directory",
        ),
        ("--device /dev/null:/dev/x:q", 125, "bad mode specified: q"),
        (
            "--device-cgroup-rule x",
            125,
            "invalid device cgroup format",
        ),
    ] {
        let err = engine.line_fails(code, &format!("run --rm {flags} busybox true"));
        assert!(
            err.to_lowercase().contains(&words.to_lowercase()),
            "{flags}: {err}"
        );
    }
}

#[test]
fn devices_that_a_vendor_describes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(dir.path().join("lib"), "of the host").expect("a file");
    let widget = serde_json::json!({
        "cdiVersion": "0.6.0",
        "kind": "acme.com/widget",
        "containerEdits": {"env": ["ACME=yes"]},
        "devices": [{"name": "one", "containerEdits": {
            "env": ["WIDGET=one", "SET=by the vendor"],
            "deviceNodes": [{"path": "/dev/acme/one", "hostPath": "/dev/full", "permissions": "r", "fileMode": 0o640}],
            "mounts": [{"hostPath": path("lib"), "containerPath": "/usr/lib/acme", "options": ["ro", "nosuid"]}],
            "hooks": [{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}", path("state"))]}],
            "additionalGids": [4711],
        }}],
    });
    let gpu = serde_json::json!({
        "cdiVersion": "0.6.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": "0", "containerEdits": {"env": ["GPU=first"]}},
            {"name": "all", "containerEdits": {"env": ["GPU=every"]}},
        ],
    });
    let specs = dir.path().join("cdi");
    std::fs::create_dir(&specs).expect("a directory");
    std::fs::write(specs.join("acme.json"), widget.to_string()).expect("a file");
    std::fs::write(specs.join("nvidia.json"), gpu.to_string()).expect("a file");
    let engine = Engine::start_empty(BERTH, &["--cdi-spec-dir", &specs.display().to_string()]);
    engine.load_busybox();
    assert!(
        engine
            .line("info -f '{{json .CDISpecDirs}}'")
            .contains("cdi")
    );

    let script = "echo $ACME $WIDGET $SET; head -c 2 /dev/acme/one | wc -c; echo x > /dev/acme/one; cat /usr/lib/acme; echo; touch /usr/lib/acme; id -G; ls -l /dev/acme/one";
    let asked = [
        "run",
        "--rm",
        "--network=none",
        "-e",
        "SET=by the user",
        "--device",
        "acme.com/widget=one",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let ran = engine.run(&asked);
    assert!(
        ran.out
            .starts_with("yes one by the vendor\n2\nof the host\n"),
        "{ran:?}"
    );
    assert!(
        ran.out.contains("4711") && ran.out.contains("crw-r-----"),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("No space left on device") && ran.err.contains("Read-only file system"),
        "{ran:?}"
    );
    let state = std::fs::read_to_string(dir.path().join("state")).expect("what the hook was told");
    assert!(state.contains("\"status\":\"creating\""), "{state}");
    if let Some(out) = engine.docker_ok_since(25, &asked) {
        assert_eq!(out, ran.out.trim_end());
    }
    for (flags, every) in [("all", "every"), ("1", "first"), ("device=0", "first")] {
        let said = engine.ok(&[
            "run",
            "--rm",
            "--network=none",
            "--gpus",
            flags,
            "busybox",
            "sh",
            "-c",
            "echo $GPU",
        ]);
        assert_eq!(said, every, "--gpus {flags}");
    }
    for (flags, words) in [
        (
            "--device acme.com/widget=two",
            "CDI device injection failed: unresolvable CDI devices acme.com/widget=two",
        ),
        (
            "--gpus driver=other",
            "could not select device driver \"other\" with capabilities: [[gpu]]",
        ),
    ] {
        let ran = engine.run_line(&format!("run --rm {flags} busybox true"));
        assert!(ran.code != 0 && ran.err.contains(words), "{flags}: {ran:?}");
    }
}
