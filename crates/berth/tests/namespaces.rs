//! `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--cgroup-parent`, `--sysctl`: what a container shares, seen
//! from both sides.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn namespace(pid: &str, kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    link.expect("a namespace").display().to_string()
}

#[test]
fn each_has_its_own_unless_it_is_asked_to_share() {
    let engine = Engine::start(BERTH);
    let started = |name: &str, flags: &str| {
        engine.line(&format!("run -d --name {name} {flags} busybox sleep 1000"));
        engine.line(&format!("inspect -f {{{{.State.Pid}}}} {name}"))
    };
    let kinds = ["pid", "net", "mnt", "uts", "ipc"];
    let own = started("c1", "--ipc shareable");
    for kind in kinds {
        assert_ne!(namespace(&own, kind), namespace("self", kind), "{kind}");
    }
    let host = started(
        "c2",
        "--pid host --network host --uts host --ipc host --cgroupns host",
    );
    for kind in ["pid", "net", "uts", "ipc", "cgroup"] {
        assert_eq!(namespace(&host, kind), namespace("self", kind), "{kind}");
    }
    let shared = started(
        "c3",
        "--pid container:c1 --network container:c1 --ipc container:c1",
    );
    for kind in ["pid", "net", "ipc"] {
        assert_eq!(namespace(&shared, kind), namespace(&own, kind), "{kind}");
    }
    assert!(engine.line("exec c3 ps").matches("sleep 1000").count() >= 2);
    engine.line("exec c1 sh -c 'echo one > /dev/shm/x'");
    assert_eq!(engine.line("exec c3 cat /dev/shm/x"), "one");
    for (flags, words) in [
        ("--pid bogus", "invalid PID mode"),
        ("--ipc bogus", "invalid IPC mode: bogus"),
        ("--uts bogus", "invalid UTS mode"),
        ("--cgroupns bogus", "invalid CGROUP mode"),
        (
            "--uts host --hostname x",
            "conflicting options: hostname and the UTS mode",
        ),
        (
            "--network container:c1 -p 80:80",
            "conflicting options: port publishing and the container type network mode",
        ),
        ("--pid container:nobody", "No such container: nobody"),
    ] {
        let err = engine.line_fails(125, &format!("run --rm {flags} busybox true"));
        assert!(err.contains(words), "{flags}: {err}");
    }
}

#[test]
fn cgroups_have_parents_and_a_view_of_their_own() {
    let engine = Engine::start(BERTH);
    let private =
        engine.line("run --rm --network none --cgroupns private busybox cat /proc/self/cgroup");
    assert!(
        private.lines().all(|line| line.ends_with(":/")),
        "{private}"
    );
    let parent = format!("/berth-parent-{}", std::process::id());
    let below = engine.line(&format!(
        "run --rm --network none --cgroupns host --cgroup-parent {parent} busybox cat /proc/self/cgroup"
    ));
    assert!(below.contains(&format!(":{parent}/")), "{below}");
    // Who names a parent keeps it.
    let trees = std::fs::read_dir("/sys/fs/cgroup")
        .expect("cgroups")
        .flatten();
    for tree in trees.map(|t| t.path()).chain(["/sys/fs/cgroup".into()]) {
        let _ = std::fs::remove_dir(tree.join(parent.trim_start_matches('/')));
    }
}

#[test]
fn sysctls_are_of_the_container() {
    let engine = Engine::start(BERTH);
    assert_eq!(
        engine.line("run --rm --sysctl net.core.somaxconn=77 --sysctl kernel.msgmax=1000 busybox sh -c 'cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax'"),
        "77\n1000"
    );
    for name in ["kernel.hostname", "vm.swappiness"] {
        let err = engine.line_fails(125, &format!("run --rm --sysctl {name}=1 busybox true"));
        assert!(
            err.contains(&format!("sysctl '{name}=1' is not allowed")),
            "{err}"
        );
    }
}
