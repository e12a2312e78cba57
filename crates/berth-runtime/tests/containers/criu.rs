//! `checkpoint` and `restore`. criu does not know every kernel: where it cannot dump here, what is
//! asked of it is all that is seen.

use std::process::Stdio;

use berth_runtime::launcher::Launcher;
use berth_spec::oci::runtime::NamespaceKind;

use crate::bundle::Bundle;
use crate::command::Place;

/// One that counts, in the host's network: criu's of Debian 12 cannot dump a network of its own on
/// newer kernels.
fn counting() -> Place {
    let script = "i=0; while :; do i=$((i + 1)); echo $i > /count; sleep 0.1; done";
    let mut bundle = Bundle::new(script);
    let linux = bundle.spec().linux.as_mut().unwrap();
    let network = NamespaceKind::Network;
    linux.namespaces.retain(|n| n.kind != network);
    let place = Place::with(bundle);
    // A file of the host is none that can be found again in the container.
    let mut command = place.command(&["create", "c1"]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
    place
}

pub fn what_cannot_be_dumped_is_refused(_: &Launcher) {
    let place = counting();
    let refusal = place.bad(&["checkpoint", "c1"]);
    let expected = "cannot be checkpointed in created state";
    assert!(refusal.contains(expected), "{refusal}");
    place.good(&["start", "c1"]);
    for parent in ["/parent", "../absent"] {
        let refusal = place.bad(&["checkpoint", "--parent-path", parent, "c1"]);
        assert!(refusal.contains("--parent-path"), "{refusal}");
    }
    let refusal = place.bad(&["checkpoint", "--manage-cgroups-mode", "odd", "c1"]);
    assert!(refusal.contains("manage-cgroups-mode"), "{refusal}");
    // Without criu it is told what is missing.
    let output = place
        .command(&["checkpoint", "c1"])
        .env("PATH", "/nowhere")
        .output();
    let errors = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(errors.contains("need criu"), "{errors}");
    let state = place.good(&["state", "c1"]);
    assert!(state.contains("running"), "{state}");
    let output = place
        .command(&["restore", "c2"])
        .env("PATH", "/nowhere")
        .output();
    let errors = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(errors.contains("need criu"), "{errors}");
    assert_eq!(place.good(&["list", "-q"]).trim(), "c1");
}

pub fn a_container_goes_on_where_it_was(_: &Launcher) {
    let check = std::process::Command::new("criu")
        .args(["check", "--no-default-config"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !check.is_ok_and(|status| status.success()) {
        testkit::skipped("criu is not there, or does not know this kernel");
        return;
    }
    let place = counting();
    place.good(&["start", "c1"]);
    let count = || {
        let text = std::fs::read_to_string(place.dir().join("root/count")).unwrap_or_default();
        text.trim().parse::<u64>().ok()
    };
    testkit::wait::until("it to count", || count().filter(|n| *n > 3));
    place.good(&["checkpoint", "--pre-dump", "--image-path", "first", "c1"]);
    let dump = [
        "checkpoint",
        "--parent-path",
        "../first",
        "--image-path",
        "images",
    ];
    place.good(&[&dump[..], &["--work-path", "work", "c1"]].concat());
    assert_eq!(place.good(&["list", "-q"]), "");
    let before = count().unwrap();
    let status = place
        .command(&[
            "restore",
            "-d",
            "--image-path",
            "images",
            "--pid-file",
            "pid2",
            "c1",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let state = place.good(&["state", "c1"]);
    assert!(state.contains("running"), "{state}");
    testkit::wait::until("it to count on", || count().filter(|n| *n > before));
    assert_eq!(place.good(&["exec", "c1", "echo", "in"]), "in\n");
}
