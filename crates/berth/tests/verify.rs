//! `berth image verify`: what is on disk, compared with its digests.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// Flips one bit in the middle of the file.
fn flip(path: &std::path::Path) {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("a file to damage");
    let at = file.metadata().expect("its size").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a bit");
}

#[test]
fn a_flipped_bit_costs_one_image() {
    let engine = Engine::start(BERTH);
    let context = engine.dir_with(
        "context",
        &[
            ("Dockerfile", "FROM scratch\nCOPY hello /\n"),
            ("hello", "hello\n"),
        ],
    );
    engine.ok(&["build", "-q", "-t", "small", &context.display().to_string()]);
    let table = engine.ok(&["image", "verify"]);
    assert!(table.starts_with("IMAGE "), "{table}");
    assert_eq!(
        table.matches(" ok").count(),
        table.lines().count() - 1,
        "{table}"
    );
    let diff_id = engine.ok(&["inspect", "-f", "{{index .RootFS.Layers 0}}", "busybox"]);
    let layer = engine.path("data/layers").join(&diff_id["sha256:".len()..]);
    flip(&layer.join("layer.tar"));
    let said = engine.fails(1, &["image", "verify"]);
    let expected = format!("busybox:latest: layer {diff_id}: layer.tar is damaged");
    assert!(said.contains(&expected), "{said}");
    let ran = engine.run(&["image", "verify", "--format", "json", "busybox"]);
    assert_eq!(ran.code, 1);
    let line: serde_json::Value = serde_json::from_str(&ran.out).expect("a JSON line");
    assert_eq!(line["Status"], "damaged");
    assert!(
        line["Damage"]
            .as_str()
            .is_some_and(|d| d.contains(&diff_id))
    );
    // The other image is whole, and the damaged one is not in the way.
    let small = engine.ok(&[
        "image",
        "verify",
        "--format",
        "{{.Name}} {{.Status}}",
        "small",
    ]);
    assert_eq!(small, "small:latest ok");
    engine.ok(&["rmi", "busybox"]);
    engine.ok(&["image", "verify", "-q"]);
    engine.load_busybox();
    assert_eq!(
        engine.ok(&["run", "--rm", "busybox", "echo", "whole"]),
        "whole"
    );
    let said = engine.fails(1, &["image", "verify", "absent"]);
    assert!(said.contains("No such image: absent:latest"), "{said}");
}

#[test]
fn an_image_without_a_readable_config_can_be_removed() {
    let mut engine = Engine::start(BERTH);
    let id = engine.ok(&["images", "-q", "--no-trunc", "busybox"]);
    engine.ok(&["tag", "busybox", "other"]);
    engine.terminate();
    flip(
        &engine
            .path("data/content/sha256")
            .join(&id["sha256:".len()..]),
    );
    engine.launch();
    let said = engine.fails(1, &["image", "verify"]);
    assert!(said.contains(&format!("blob {id}")), "{said}");
    let said = engine.fails(125, &["run", "--rm", "busybox", "true"]);
    assert!(said.contains("damaged on disk"), "{said}");
    engine.ok(&["rmi", "-f", &id]);
    assert_eq!(engine.ok(&["images", "-qa"]), "");
    engine.load_busybox();
    engine.ok(&["image", "verify", "busybox"]);
}
