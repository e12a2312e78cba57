//! The house rules that a program can check. What each rule is for stands in CONTRIBUTING.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
}

/// Every `.rs` file below `crates/`, with its path relative to the workspace.
fn sources() -> Vec<(String, String)> {
    let root = workspace();
    let mut found = Vec::new();
    let mut todo = vec![root.join("crates")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).expect("a readable tree") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(&root)
                    .expect("below the root")
                    .display()
                    .to_string();
                let text = fs::read_to_string(&path).expect("source text");
                found.push((name, text));
            }
        }
    }
    assert!(
        found.len() > 12,
        "the walk found only {} files",
        found.len()
    );
    found.sort();
    found
}

/// The part of a file that ships: up to its test module.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// A line without its comment and without what stands in string literals.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            c if !in_string => out.push(c),
            _ => {}
        }
    }
    out
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

fn report(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Which of our crates each crate may name: ARCHITECTURE.md, "Crates".
fn arrows() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("berth-sys", &[][..]),
        ("berth-spec", &[][..]),
        ("berth-store", &["berth-spec", "berth-sys"][..]),
        ("berth-network", &["berth-spec", "berth-sys"][..]),
        ("berth-runtime", &["berth-spec", "berth-sys"][..]),
        ("berth-client", &["berth-spec"][..]),
        ("berth-distribution", &["berth-store", "berth-spec"][..]),
        (
            "berth-engine",
            &[
                "berth-distribution",
                "berth-store",
                "berth-network",
                "berth-runtime",
                "berth-spec",
                "berth-sys",
            ][..],
        ),
        (
            "berth-build",
            &[
                "berth-distribution",
                "berth-store",
                "berth-spec",
                "berth-sys",
            ][..],
        ),
        (
            "berth-server",
            &[
                "berth-engine",
                "berth-build",
                "berth-distribution",
                "berth-store",
                "berth-spec",
                "berth-sys",
            ][..],
        ),
        ("testkit", &["berth-spec", "berth-sys"][..]),
    ])
}

/// The dependency names of a manifest's `[dependencies]` table.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside
            && let Some(name) = line.split(['.', ' ', '=']).next().filter(|n| !n.is_empty())
        {
            names.push(name.to_owned());
        }
    }
    names
}

fn manifests() -> Vec<(String, Vec<String>)> {
    fs::read_dir(workspace().join("crates"))
        .expect("crates")
        .map(|entry| {
            let path = entry.expect("a crate").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let manifest = fs::read_to_string(path.join("Cargo.toml")).expect("a manifest");
            (name, dependencies(&manifest))
        })
        .collect()
}

#[test]
fn crates_point_only_downwards() {
    let arrows = arrows();
    let mut broken = Vec::new();
    for (name, dependencies) in manifests() {
        if name == "berth" {
            continue;
        }
        let allowed = arrows
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no row in this test"));
        for dependency in dependencies
            .iter()
            .filter(|d| d.starts_with("berth") || *d == "testkit")
        {
            if !allowed.contains(&dependency.as_str()) {
                broken.push(format!("{name} names {dependency}"));
            }
        }
    }
    report("a crate names only crates of lower floors", broken);
}

#[test]
fn no_executor_below_the_engine() {
    let mut broken = Vec::new();
    for (name, dependencies) in manifests() {
        if [
            "berth-sys",
            "berth-spec",
            "berth-runtime",
            "berth-store",
            "berth-network",
        ]
        .contains(&name.as_str())
        {
            broken.extend(
                dependencies
                    .iter()
                    .filter(|d| d.starts_with("tokio") || *d == "hyper")
                    .map(|d| format!("{name} names {d}")),
            );
        }
    }
    report(
        "runtime, store and network block; the engine decides on which thread",
        broken,
    );
}

#[test]
fn unsafe_stands_in_berth_sys_only() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        if name.starts_with("crates/berth-sys/") {
            continue;
        }
        if name.ends_with("/src/lib.rs") && !text.contains("#![forbid(unsafe_code)]") {
            broken.push(format!("{name}: no #![forbid(unsafe_code)]"));
        }
        for (number, line) in text.lines().enumerate() {
            if words(&code(line)).any(|w| w == "unsafe") {
                broken.push(format!("{name}:{}", number + 1));
            }
        }
    }
    report("`unsafe` stands in berth-sys only", broken);
}

#[test]
fn modules_are_named_after_what_they_hold() {
    const EMPTY_NAMES: [&str; 9] = [
        "utils", "util", "common", "helpers", "helper", "manager", "misc", "stuff", "shared",
    ];
    let broken = sources()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            Path::new(name)
                .with_extension("")
                .components()
                .any(|c| EMPTY_NAMES.contains(&&*c.as_os_str().to_string_lossy()))
        })
        .collect();
    report("a module is named after what it holds", broken);
}

#[test]
fn files_stay_small() {
    const LIMIT: usize = 800;
    let broken = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LIMIT && !text.contains("One uniform table"))
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    report(
        "a file is about one thing (a long one says 'One uniform table')",
        broken,
    );
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let marks = [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("TO", "DO"),
    ];
    let mut broken = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|m| words(line).any(|w| w == *m))
                || line.trim_start().starts_with(concat!("#[ig", "nore"))
            {
                broken.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report("what is open stands in docs/roadmap.md", broken);
}

#[test]
fn only_the_faces_read_the_environment() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let face = name.starts_with("crates/berth/")
            || name.starts_with("crates/testkit/")
            || name.contains("/tests/")
            || name.contains("/examples/");
        // `berth runtime` is a program of its own under containerd and podman.
        if face || name.starts_with("crates/berth-runtime/src/cli") {
            continue;
        }
        for (number, line) in shipped(&text).lines().enumerate() {
            let line = code(line);
            if line.contains("env::var")
                || line.contains("env::vars")
                || line.contains("env::set_var")
            {
                broken.push(format!("{name}:{}", number + 1));
            }
        }
    }
    report("below berth/daemon.rs nobody reads the environment", broken);
}

#[test]
fn tests_wait_for_events_not_for_time() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let tests = if name.contains("/tests/") {
            &text[..]
        } else {
            text.split_once("#[cfg(test)]").map_or("", |(_, t)| t)
        };
        for line in tests.lines() {
            let line = code(line);
            if line.contains("thread::sleep(") || line.contains("time::sleep(") {
                broken.push(format!("{name}: {}", line.trim()));
            }
        }
    }
    report(
        "a test awaits an event (poll with a deadline), it does not sleep",
        broken,
    );
}

#[test]
fn no_path_of_one_machine() {
    let marks = [
        concat!("/wo", "rk/main"),
        concat!("/wo", "rk/sha", "red"),
        concat!("/tmp", "/wt/"),
        concat!("/tmp", "/plan"),
    ];
    let broken = sources()
        .into_iter()
        .filter(|(_, text)| marks.iter().any(|m| text.contains(m)))
        .map(|(name, _)| name)
        .collect();
    report("the project speaks of itself alone", broken);
}
