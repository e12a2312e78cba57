//! What processes there are on this machine.

use std::fs;

/// PIDs of processes that run with these very arguments.
pub fn with_arguments(arguments: &[&str]) -> Vec<i32> {
    matching(|line| line == arguments)
}

/// PIDs of processes one of whose arguments contains `text`: that of a test's own directory, say.
pub fn naming(text: &str) -> Vec<i32> {
    matching(|line| line.iter().any(|argument| argument.contains(text)))
}

fn matching(wanted: impl Fn(&[&str]) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("the processes");
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let line: Vec<&str> = line.split_terminator('\0').collect();
        wanted(&line)
    })
    .collect()
}
