//! An engine that is killed again and again, in the middle of what it does, loses no container; and when all is
//! removed nothing of it is left in the kernel.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn killed_in_the_middle_and_nothing_is_left() {
    let mut engine = Engine::start(BERTH);
    engine.ok(&["network", "create", "inner"]);
    let mut ids = Vec::new();
    for round in 0..4 {
        let mut clients: Vec<Child> = (0..3).map(|n| start(&engine, round, n)).collect();
        // Killed when one of them has its answer: the others are somewhere on their way.
        let first = clients.remove(round % 3);
        let first = first.wait_with_output().expect("its output");
        assert!(first.status.success(), "{first:?}");
        engine.kill();
        for client in clients {
            // It had its answer, or lost its engine.
            let _ = client.wait_with_output().expect("its output");
        }
        engine.launch();
        let id = String::from_utf8(first.stdout).expect("an id");
        ids.push(id.trim().to_owned());
        let running = engine.ok(&["ps", "-q", "--no-trunc"]);
        for id in &ids {
            assert!(running.contains(id.as_str()), "{id} is lost: {running}");
        }
        for id in running.lines() {
            let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", id]);
            assert!(Path::new("/proc").join(&pid).exists(), "{id} is dead");
            assert_eq!(engine.ok(&["exec", id, "echo", "alive"]), "alive");
        }
    }
    let all = engine.ok(&["ps", "-aq", "--no-trunc"]);
    let mut args = vec!["rm", "-fv"];
    args.extend(all.lines());
    engine.ok(&args);
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    engine.ok(&["network", "rm", "inner"]);
    engine.ok(&["volume", "prune", "-af"]);
    for dir in ["data/containers", "data/volumes"] {
        assert_eq!(names(&engine.path(dir)), [""; 0], "{dir}");
    }
    engine.terminate();
    // What is swept behind the scenes is done when the engine has ended.
    for dir in ["data/trash", "run/containers"] {
        assert_eq!(names(&engine.path(dir)), [""; 0], "{dir}");
    }
    let dir = engine.path("").display().to_string();
    let dir = dir.trim_end_matches('/');
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(dir), "{mounts}");
    assert_eq!(processes(dir), [""; 0], "processes");
    for id in all.lines() {
        assert_eq!(cgroups(Path::new("/sys/fs/cgroup"), id), [""; 0], "cgroups");
    }
    let (gateway, _) = engine.bip().split_once('/').expect("a prefix length");
    let addresses = fs::read_to_string("/proc/net/fib_trie").expect("the addresses");
    assert!(
        !addresses.contains(&format!("|-- {gateway}\n")),
        "its bridge"
    );
    if let Some(nft) = testkit::find_command("nft") {
        let rules = std::process::Command::new(nft)
            .args(["list", "ruleset"])
            .output()
            .expect("the rules");
        let subnet = gateway.trim_end_matches('1');
        let rules = String::from_utf8_lossy(&rules.stdout);
        assert!(!rules.contains(subnet), "its rules: {rules}");
    }
}

fn start(engine: &Engine, round: usize, number: usize) -> Child {
    let more: &[&str] = match number {
        0 => &["--network", "inner"],
        1 => &["-P", "--expose", "80"],
        _ => &["-v", "/data"],
    };
    engine
        .berth()
        .args(["run", "-d", "--name", &format!("c{round}-{number}")])
        .args(more)
        .args(["busybox", "sleep", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the berth binary")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|e| e.expect("an entry").file_name().display().to_string())
        .collect()
}

/// The command lines that name the directory.
fn processes(dir: &str) -> Vec<String> {
    names(Path::new("/proc"))
        .into_iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(dir))
        .collect()
}

/// The cgroups of this name.
fn cgroups(dir: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path().display().to_string());
        } else {
            found.extend(cgroups(&entry.path(), name));
        }
    }
    found
}
