//! `berth completion`: what a shell offers, asked the way the shell asks.

use std::process::Command;

/// What bash offers for a line with the cursor at its end, with these contexts there.
fn offered(line: &str, contexts: &[&str]) -> Option<Vec<String>> {
    if testkit::find_command("bash").is_none() {
        testkit::skipped("there is no bash");
        return None;
    }
    let home = tempfile::tempdir().expect("a directory");
    let berth = env!("CARGO_BIN_EXE_berth");
    let bin = std::path::Path::new(berth).parent().expect("a directory");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").expect("a PATH")
    );
    for name in contexts {
        let made = Command::new(berth)
            .args([
                "context",
                "create",
                name,
                "--docker",
                "host=unix:///nowhere",
            ])
            .env("DOCKER_CONFIG", home.path())
            .output()
            .expect("the berth binary");
        assert!(made.status.success(), "{made:?}");
    }
    let script = "source <(berth completion bash)\nCOMP_LINE=$1 COMP_POINT=${#1}\n_berth\nprintf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", script, "bash", line])
        .env("PATH", path)
        .env("DOCKER_CONFIG", home.path())
        .env("DOCKER_HOST", "unix:///nowhere")
        .output()
        .expect("bash");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(
        text.lines()
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn bash_offers_verbs_options_and_names() {
    for (line, expected) in [
        ("berth comp", &["completion"][..]),
        ("berth context sh", &["show"]),
        ("berth build --no", &["--no-cache"]),
        ("berth context use o", &["one", "other"]),
        ("berth context rm one d", &["default"]),
        // No engine is there to ask, and none is started.
        ("berth rm x", &[]),
    ] {
        if let Some(found) = offered(line, &["one", "other"]) {
            assert_eq!(found, expected, "{line}");
        }
    }
}
