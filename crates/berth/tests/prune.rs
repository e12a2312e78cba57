//! `prune` of everything, and `system df`.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn prune_takes_what_nobody_uses() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "runs",
        "-v",
        "used:/v",
        "--network",
        "bridge",
        "busybox",
        "sleep",
        "1000",
    ]);
    engine.ok(&[
        "run",
        "--name",
        "over",
        "--label",
        "k=v",
        "busybox",
        "sh",
        "-c",
        "dd if=/dev/zero of=/big bs=1M count=4",
    ]);
    engine.ok(&["network", "create", "idle"]);
    engine.ok(&["volume", "create", "spare"]);
    let pruned = engine.ok(&["container", "prune", "-f", "--filter", "label=other"]);
    assert_eq!(pruned, "Total reclaimed space: 0B");
    let over = engine.ok(&["ps", "-aq", "--no-trunc", "--filter", "name=over"]);
    let pruned = engine.ok(&["container", "prune", "-f", "--filter", "label=k=v"]);
    assert!(
        pruned.starts_with(&format!("Deleted Containers:\n{over}\n")),
        "{pruned}"
    );
    assert!(
        pruned.contains("Total reclaimed space: 4.") && pruned.ends_with("MB"),
        "{pruned}"
    );
    let pruned = engine.ok(&["network", "prune", "-f"]);
    assert_eq!(pruned, "Deleted Networks:\nidle");
    // Old versions of an image have no name.
    engine.ok(&["commit", "-c", "LABEL n=1", "runs", "made"]);
    engine.ok(&["commit", "-c", "LABEL n=2", "runs", "made"]);
    let dangling = engine.ok(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]);
    assert_eq!(dangling.lines().count(), 1, "{dangling}");
    let pruned = engine.ok(&["image", "prune", "-f"]);
    assert!(pruned.contains(&format!("deleted: {dangling}")), "{pruned}");
    engine.ok(&["tag", "busybox", "spare:tag"]);
    let pruned = engine.ok(&["system", "prune", "-af", "--volumes"]);
    assert!(pruned.contains("untagged: made:latest"), "{pruned}");
    assert_eq!(
        engine.ok(&[
            "images",
            "--format",
            "{{.Repository}}",
            "--filter",
            "reference=busybox"
        ]),
        "busybox"
    );
    assert_eq!(
        engine.ok(&["volume", "ls", "-q", "--filter", "name=used"]),
        "used"
    );
    assert_eq!(engine.ok(&["exec", "runs", "echo", "unharmed"]), "unharmed");
    let err = engine.fails(1, &["container", "prune", "-f", "--filter", "colour=blue"]);
    assert!(err.contains("invalid filter"), "{err}");
}

#[test]
fn df_counts_what_is_there() {
    let engine = Engine::start(BERTH);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "runs",
        "-v",
        "vol:/v",
        "busybox",
        "sh",
        "-c",
        "dd if=/dev/zero of=/v/big bs=1M count=3; sleep 1000",
    ]);
    testkit::wait::until("the file", || {
        let size = engine.ok(&["exec", "runs", "sh", "-c", "stat -c %s /v/big || echo 0"]);
        (size == (3 << 20).to_string()).then_some(())
    });
    let table = engine.ok(&[
        "system",
        "df",
        "--format",
        "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}",
    ]);
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split('|').collect()).collect();
    let row = |kind: &str| {
        rows.iter()
            .find(|r| r[0] == kind)
            .unwrap_or_else(|| panic!("{kind}: {table}"))
    };
    assert_eq!(row("Images")[1..3], ["1", "1"]);
    assert_eq!(row("Containers")[1..3], ["1", "1"]);
    assert_eq!(row("Local Volumes")[1..3], ["1", "1"]);
    assert!(
        row("Local Volumes")[3].starts_with("3.1") && row("Local Volumes")[3].ends_with("MB"),
        "{table}"
    );
    let verbose = engine.ok(&["system", "df", "-v"]);
    assert!(
        verbose.contains("vol") && verbose.contains("runs"),
        "{verbose}"
    );
}
