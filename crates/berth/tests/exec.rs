//! `berth exec`: further processes in a running container.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn exec() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run", "-d", "--name", "c1", "-e", "A=1", "busybox", "sleep", "1000",
    ]);
    assert_eq!(
        engine.ok(&["exec", "c1", "sh", "-c", "echo $A; hostname | wc -c"]),
        "1\n13"
    );
    let ran = engine.run(&["exec", "c1", "sh", "-c", "echo o; echo e >&2; exit 5"]);
    assert_eq!((ran.code, &*ran.out, &*ran.err), (5, "o\n", "e\n"));
    assert_eq!(
        engine.ok(&[
            "exec",
            "-e",
            "B=2",
            "-w",
            "/etc",
            "-u",
            "alice",
            "c1",
            "sh",
            "-c",
            "echo $B $PWD $(id -u)"
        ]),
        "2 /etc 1000"
    );
    let ran = engine.run_with_input(&["exec", "-i", "c1", "cat"], b"piped");
    assert_eq!(ran.out, "piped");
    let ran = engine.run(&["exec", "c1", "no-such-program"]);
    assert_eq!(ran.code, 127, "{}", ran.err);
    assert!(
        ran.err.contains("executable file not found")
            || ran.out.contains("executable file not found"),
        "{ran:?}"
    );
    // It sees the same processes, and lies in the same cgroup.
    assert_eq!(
        engine
            .ok(&["exec", "c1", "cat", "/proc/1/cmdline"])
            .trim_end_matches('\0'),
        "sleep\x001000"
    );
    assert_eq!(
        engine.ok(&["exec", "c1", "grep", "CapEff", "/proc/self/status"]),
        "CapEff:\t00000000a80425fb"
    );
    engine.ok(&["exec", "-d", "c1", "touch", "/made"]);
    testkit::wait::until("the detached process", || {
        (engine.run(&["exec", "c1", "ls", "/made"]).code == 0).then_some(())
    });
    let err = engine.fails(1, &["exec", "nobody", "true"]);
    assert!(err.contains("No such container: nobody"), "{err}");
    engine.ok(&["rm", "-f", "c1"]);
    engine.ok(&["create", "--name", "c2", "busybox"]);
    let err = engine.fails(1, &["exec", "c2", "true"]);
    assert!(err.contains("is not running"), "{err}");
}
