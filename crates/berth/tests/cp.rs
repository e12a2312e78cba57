//! `berth cp`: files into and out of containers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A container with a tree to copy from, running or at rest.
fn container(engine: &Engine, running: bool) {
    let script = "mkdir -p /d/sub; echo one > /d/file; echo two > /d/sub/file; ln -s file /d/link; ln -s d /dirlink; touch /ready; sleep 1000";
    engine.ok(&[
        "run", "-d", "--name", "box", "-v", "vol:/vol", "busybox", "sh", "-c", script,
    ]);
    testkit::wait::until("the tree", || {
        (engine.run(&["exec", "box", "test", "-e", "/ready"]).code == 0).then_some(())
    });
    if !running {
        engine.ok(&["kill", "box"]);
    }
}

#[test]
fn out_of_a_container() {
    let engine = Engine::start(BERTH);
    for running in [true, false] {
        container(&engine, running);
        let dir = engine.dir_with(&format!("out-{running}"), &[("keep", "")]);
        let to = |name: &str| dir.join(name).display().to_string();
        let read = |name: &str| {
            fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        // A file: to a name, into a directory, by a link.
        engine.ok(&["cp", "box:/d/file", &to("named")]);
        assert_eq!(read("named"), "one\n");
        engine.ok(&["cp", "box:d/file", &to(".")]);
        assert_eq!(read("file"), "one\n");
        engine.ok(&["cp", "box:/d/link", &to(".")]);
        assert_eq!(
            fs::read_link(dir.join("link"))
                .expect("a link")
                .to_string_lossy(),
            "file"
        );
        engine.ok(&["cp", "-L", "box:/d/link", &to("followed")]);
        assert_eq!(read("followed"), "one\n");
        // A directory: under its name, under another, what is in it.
        engine.ok(&["cp", "box:/d", &to(".")]);
        assert_eq!(read("d/sub/file"), "two\n");
        engine.ok(&["cp", "box:/d", &to("other")]);
        assert_eq!(read("other/sub/file"), "two\n");
        engine.ok(&["cp", "box:/d/.", &to("content")]);
        assert_eq!(read("content/sub/file"), "two\n");
        engine.ok(&["cp", "box:/dirlink/.", &to("linked")]);
        assert_eq!(read("linked/file"), "one\n");
        engine.ok(&["cp", "box:/", &to("everything")]);
        assert_eq!(read("everything/d/sub/file"), "two\n");
        assert!(read("everything/etc/passwd").starts_with("root:"));
        let err = engine.fails(1, &["cp", "box:/absent", &to(".")]);
        assert!(
            err.contains("Could not find the file /absent in container box"),
            "{err}"
        );
        let err = engine.fails(1, &["cp", "box:/d", &to("named")]);
        assert!(err.contains("cannot copy directory"), "{err}");
        // As a tar.
        let ran = engine.run(&["cp", "box:/d/file", "-"]);
        assert!(ran.code == 0 && ran.out.starts_with("file\0") && ran.out.contains("one\n"));
        engine.ok(&["rm", "-fv", "box"]);
    }
}

#[test]
fn into_a_container() {
    let engine = Engine::start(BERTH);
    for running in [true, false] {
        container(&engine, running);
        let dir = engine.dir_with(
            &format!("in-{running}"),
            &[("file", "new\n"), ("tree/a/b", "deep\n")],
        );
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o750)).expect("a mode");
        let from = |name: &str| dir.join(name).display().to_string();
        let read = |path: &str| {
            let ran = engine.run(&["cp", &format!("box:{path}"), "-"]);
            assert_eq!(ran.code, 0, "{path}: {}", ran.err);
            ran.out
        };
        engine.ok(&["cp", &from("file"), "box:/d/"]);
        assert!(read("/d/file").contains("new\n"));
        engine.ok(&["cp", &from("file"), "box:/d/named"]);
        assert!(read("/d/named").contains("0000750"), "its mode stays");
        // Through a link to a directory, and into a volume.
        engine.ok(&["cp", &from("file"), "box:/dirlink"]);
        engine.ok(&["cp", &from("file"), "box:/vol"]);
        let volume = engine.path("data").join("volumes/vol/_data/file");
        assert_eq!(
            fs::read_to_string(volume).expect("the volume's file"),
            "new\n"
        );
        engine.ok(&["cp", &from("tree"), "box:/d"]);
        assert!(read("/d/tree/a/b").contains("deep\n"));
        engine.ok(&["cp", &from("tree/."), "box:/d/sub"]);
        assert!(read("/d/sub/a/b").contains("deep\n"));
        engine.ok(&["cp", &from("tree"), "box:/d/other"]);
        assert!(read("/d/other/a/b").contains("deep\n"));
        let err = engine.fails(1, &["cp", &from("tree"), "box:/d/file"]);
        assert!(err.contains("cannot copy directory"), "{err}");
        let err = engine.fails(1, &["cp", &from("file"), "box:/no/such/dir"]);
        assert!(
            err.contains("Could not find the file /no/such in container box"),
            "{err}"
        );
        let err = engine.fails(1, &["cp", &from("absent"), "box:/d"]);
        assert!(err.contains("no such file or directory"), "{err}");
        engine.ok(&["rm", "-fv", "box"]);
    }
}

#[test]
fn links_of_a_container_lead_nowhere_outside() {
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with("secret", &[("file", "of the host\n")]);
    let path = dir.join("file").display().to_string();
    let script = format!(
        "ln -s {path} /out; ln -s {} /dir; ln -s ../../../../../../.. /up; sleep 1000",
        dir.display()
    );
    engine.ok(&["run", "-d", "--name", "box", "busybox", "sh", "-c", &script]);
    testkit::wait::until("the links", || {
        (engine.run(&["exec", "box", "test", "-L", "/up"]).code == 0).then_some(())
    });
    let mine = engine
        .dir_with("mine", &[("evil", "evil\n")])
        .join("evil")
        .display()
        .to_string();
    for _ in 0..2 {
        let ran = engine.run(&["cp", "-L", "box:/out", "-"]);
        assert!(
            ran.code != 0 && !ran.out.contains("of the host"),
            "{}",
            ran.out
        );
        assert_ne!(engine.run(&["cp", &mine, "box:/dir"]).code, 0);
        engine.ok(&["cp", &mine, "box:/up"]);
        assert!(!std::path::Path::new("/evil").exists() && !dir.join("evil").exists());
        engine.ok(&["cp", "box:/evil", &dir.join("back").display().to_string()]);
        engine.run(&["kill", "box"]);
    }
    // A link on this side is not written through either.
    symlink("/nonexistent-target", dir.join("link")).expect("a link");
    engine.ok(&["cp", "box:/evil", &dir.join("link").display().to_string()]);
    assert!(!std::path::Path::new("/nonexistent-target").exists());
}

#[test]
fn read_only_containers_and_volumes_are_not_written_to() {
    let engine = Engine::start(BERTH);
    let file = engine
        .dir_with("f", &[("file", "x")])
        .join("file")
        .display()
        .to_string();
    engine.ok(&[
        "create",
        "--name",
        "box",
        "--read-only",
        "-v",
        "vv:/v",
        "-v",
        "ww:/w:ro",
        "busybox",
    ]);
    let err = engine.fails(1, &["cp", &file, "box:/tmp"]);
    assert!(
        err.contains("container rootfs is marked read-only"),
        "{err}"
    );
    let err = engine.fails(1, &["cp", &file, "box:/w"]);
    assert!(err.contains("mounted volume is marked read-only"), "{err}");
    engine.ok(&["cp", &file, "box:/v"]);
}

/// The engine has a process that makes files, which has left the host's mount namespace.
#[test]
fn files_are_made_by_another_process() {
    let engine = Engine::start(BERTH);
    let pid = engine.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("a list");
    let extractor = children
        .split_whitespace()
        .find(|child| {
            fs::read_to_string(format!("/proc/{child}/comm"))
                .is_ok_and(|name| name.trim() == "berth-extractor")
        })
        .expect("an extractor");
    let mounts = || fs::read_to_string(format!("/proc/{extractor}/mountinfo")).ok();
    testkit::wait::until("an empty world", || {
        (mounts()?.lines().count() == 1).then_some(())
    });
}
