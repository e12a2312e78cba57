//! `system df` beside `du`: both say what the data root takes of the disk.

use std::process::Command;

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// Bytes on disk below the data root, without what an exclude pattern names.
fn du(engine: &Engine, exclude: &str) -> i64 {
    let out = Command::new("du")
        .args(["-s", "-B1", "--exclude", exclude])
        .arg(engine.path("data"))
        .output()
        .expect("du");
    let text = String::from_utf8(out.stdout).expect("text");
    text.split('\t')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

/// The sum of the API's figures, as `system df` adds them up.
fn df(engine: &Engine) -> i64 {
    let out = Command::new("curl")
        .args(["-sS", "--unix-socket"])
        .arg(engine.host().trim_start_matches("unix://"))
        .arg("http://d/system/df")
        .output()
        .expect("curl");
    let usage: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let of = |list: &str| usage[list].as_array().cloned().unwrap_or_default();
    let number = |value: &serde_json::Value| value.as_i64().unwrap_or(0);
    let containers = of("Containers");
    let volumes = of("Volumes");
    let cache = of("BuildCache");
    number(&usage["LayersSize"])
        + containers.iter().map(|c| number(&c["SizeRw"])).sum::<i64>()
        + volumes
            .iter()
            .map(|v| number(&v["UsageData"]["Size"]))
            .sum::<i64>()
        + cache
            .iter()
            .filter(|record| record["Shared"] != true)
            .map(|record| number(&record["Size"]))
            .sum::<i64>()
}

fn assert_near(engine: &Engine, when: &str) {
    let (du, df) = (du(engine, ""), df(engine));
    assert!((du - df).abs() * 100 <= du, "{when}: du {du}, df {df}");
}

/// Lines of text that do not compress to nothing.
fn noise(lines: u64) -> String {
    (0..lines)
        .map(|n| format!("{:016x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect()
}

#[test]
fn df_is_what_du_says() {
    if !testkit::has_command("curl") {
        return testkit::skipped("no curl");
    }
    let engine = Engine::start(BERTH);
    let text = noise(400_000);
    let context = engine.dir_with(
        "context",
        &[
            (
                "Dockerfile",
                "FROM busybox AS made\nRUN --mount=type=cache,target=/c dd if=/dev/urandom of=/c/kept bs=1M count=3\nRUN dd if=/dev/urandom of=/made bs=1M count=5\nFROM busybox\nCOPY big /\n",
            ),
            ("big", &text),
        ],
    );
    let context = context.display().to_string();
    assert_near(&engine, "one image");
    engine.ok(&["build", "-q", "-t", "big", &context]);
    engine.ok(&["build", "-q", "--target", "made", &context]);
    assert_near(&engine, "after builds");
    let write = "dd if=/dev/urandom of=/v/x bs=1M count=4; dd if=/dev/urandom of=/y bs=1M count=2; ln /y /z; cat /big";
    engine.ok(&[
        "run", "--name", "box", "-v", "vol:/v", "big", "sh", "-c", write,
    ]);
    assert_near(&engine, "after a container");
    engine.ok(&["rmi", "busybox"]);
    engine.ok(&["system", "prune", "-af", "--volumes"]);
    assert_near(&engine, "after a prune");
}

#[test]
fn a_removed_image_gives_all_of_its_space_back() {
    let engine = Engine::start(BERTH);
    let text = noise(600_000);
    let context = engine.dir_with(
        "context",
        &[("Dockerfile", "FROM scratch\nCOPY big /\n"), ("big", &text)],
    );
    let saved = engine.path("saved.tar").display().to_string();
    engine.ok(&["build", "-q", "-t", "big", &context.display().to_string()]);
    engine.ok(&["save", "-o", &saved, "big"]);
    engine.ok(&["rmi", "big"]);
    engine.ok(&["builder", "prune", "-af"]);
    // The record of containers is the engine's, and grows with each.
    let du = || du(&engine, "engine.db*");
    let before = du();
    for _ in 0..3 {
        engine.ok(&["load", "-i", &saved]);
        // Mounted once, so that something could hold it.
        engine.ok(&["create", "--name", "box", "big", "/x"]);
        engine.run(&["start", "box"]);
        engine.ok(&["rm", "box"]);
        let with = du();
        assert!(with - before > 8 << 20, "{before} {with}");
        engine.ok(&["rmi", "big"]);
        let after = du();
        assert!(
            (after - before) * 100 <= with - before,
            "before {before}, with the image {with}, after {after}"
        );
    }
}
