//! The log beside attached clients.

use std::path::{Path, PathBuf};

use berth_runtime::launcher::Launcher;

use crate::bundle::Bundle;

fn texts(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            format!(
                "{}:{}",
                entry["stream"].as_str().unwrap(),
                entry["log"].as_str().unwrap()
            )
        })
        .collect()
}

pub fn lines_are_kept(launcher: &Launcher) {
    let mut bundle = Bundle::new("echo one; printf 'no end'; echo err >&2; exit 0");
    let log = bundle.log(0, 0);
    let running = bundle.spawn(launcher).unwrap();
    assert_eq!(running.task.wait().unwrap().code, 0);
    // All of it is there by the time the exit is told.
    let mut found = texts(&log);
    found.sort();
    assert_eq!(found, ["stderr:err\n", "stdout:no end", "stdout:one\n"]);
}

pub fn files_are_rotated(launcher: &Launcher) {
    let mut bundle = Bundle::new("seq 1000");
    let log = bundle.log(20_000, 8);
    let running = bundle.spawn(launcher).unwrap();
    running.task.wait().unwrap();
    let mut all = Vec::new();
    for n in (1..8).rev() {
        all.extend(texts(&PathBuf::from(format!("{}.{n}", log.display()))));
    }
    let last = texts(&log);
    assert!(!last.is_empty() && last.len() < 1000);
    all.extend(last);
    let expected: Vec<String> = (1..=1000).map(|n| format!("stdout:{n}\n")).collect();
    assert_eq!(all, expected);
}
