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
