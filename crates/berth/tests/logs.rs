//! `berth logs`: what a container printed, by time, from the end, as it comes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn logs() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2",
    ]);
    let all = engine.run(&["logs", "c1"]);
    assert_eq!(
        (&*all.out, &*all.err),
        ("line 1\nline 2\nline 3\nline 4\nline 5\n", "bad\n")
    );
    let tail = engine.run(&["logs", "--tail", "2", "c1"]);
    assert_eq!((&*tail.out, &*tail.err), ("line 5\n", "bad\n"));
    let stamped = engine.ok(&["logs", "-t", "c1"]);
    let (stamp, rest) = stamped
        .lines()
        .next()
        .unwrap_or_default()
        .split_once(' ')
        .expect("a time stamp");
    assert!(stamp.ends_with('Z') && stamp.len() == 30, "{stamp}");
    assert_eq!(rest, "line 1");
    assert_eq!(engine.run(&["logs", "--since", "1h", "c1"]).out, all.out);
    assert_eq!(engine.run(&["logs", "--until", "1h", "c1"]).out, "");
    let err = engine.fails(1, &["logs", "nobody"]);
    assert!(err.contains("No such container: nobody"), "{err}");
}

#[test]
fn a_follower_sees_lines_as_they_come_and_ends_with_the_container() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "echo first; read x; echo second",
    ]);
    let mut follower = engine
        .berth()
        .args(["logs", "-f", "c1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("berth logs");
    let mut lines = BufReader::new(follower.stdout.take().expect("its output")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "first");
    let ran = engine.run_with_input(&["attach", "--sig-proxy=false", "c1"], b"go\n");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(lines.next().expect("a line").expect("text"), "second");
    assert!(lines.next().is_none());
    assert!(follower.wait().expect("its end").success());
}
