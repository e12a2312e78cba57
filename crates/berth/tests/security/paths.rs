//! Rule A: a path in a tree that the attacker owns.

use std::process::Stdio;

use testkit::engine::Engine;

use crate::root::{Canary, Root, core_pattern};
use crate::{BERTH, sh, stays};

/// CVE-2019-19921, CVE-2025-54867, CVE-2026-41579, CVE-2026-47766: `/dev`, `/proc` or `/sys` is a link.
#[test]
fn links_in_place_of_the_kernels_trees() {
    let engine = Engine::start_empty(BERTH, &[]);
    let canary = Canary::new(&engine);
    for tree in ["dev", "proc", "sys"] {
        for target in [&canary.path(), "/proc/self/fd/0", "../../../../../.."] {
            Root::default()
                .link(tree, target)
                .image(&engine, "bad", &[]);
            for flags in [&["--rm"][..], &["--rm", "-t"]] {
                let args = [&["run"], flags, &["bad", "true"]].concat();
                let error = engine.fails(125, &args);
                assert!(error.contains("ordinary directory"), "{tree}: {error}");
                canary.check(tree);
            }
        }
    }
}

/// CVE-2025-31133 and CVE-2025-52565: what masks are made of, and the console, are not what the image
/// says they are.
#[test]
fn false_devices() {
    let engine = Engine::start_empty(BERTH, &[]);
    let canary = Canary::new(&engine);
    let before = core_pattern();
    let script = "cat /proc/keys /proc/timer_list | wc -c; stat -c %t:%T /dev/null; test -c /dev/console && echo console";
    for name in ["dev/null", "dev/console", "dev/pts", "dev/ptmx", "dev/shm"] {
        for target in ["/proc/sys/kernel/core_pattern", &canary.path()] {
            Root::default()
                .link(name, target)
                .image(&engine, "bad", &[]);
            let out = sh(&engine, &["-t"], "bad", script).replace('\r', "");
            assert_eq!(out, "0\n1:3\nconsole", "{name} to {target}");
            canary.check(name);
        }
        Root::default().fifo(name).image(&engine, "bad", &[]);
        let out = sh(&engine, &["-t"], "bad", script).replace('\r', "");
        assert_eq!(out, "0\n1:3\nconsole", "{name} as a FIFO");
    }
    assert_eq!(core_pattern(), before);
}

/// CVE-2025-52881 and CVE-2026-53489: files that the engine makes and mounts, by links of the image.
#[test]
fn files_of_the_engine_are_not_made_through_links() {
    let engine = Engine::start_empty(BERTH, &[]);
    let canary = Canary::new(&engine);
    for name in ["etc/resolv.conf", "etc/hosts", "etc/hostname", "etc"] {
        let into = match name {
            "etc" => canary.path(),
            _ => format!("{}/made", canary.path()),
        };
        Root::default().link(name, &into).image(&engine, "bad", &[]);
        sh(&engine, &[], "bad", "cat /etc/resolv.conf");
        canary.check(name);
        if name != "etc" {
            let target = "/proc/sys/kernel/core_pattern";
            Root::default()
                .link(name, target)
                .image(&engine, "bad", &[]);
            let error = engine.fails(125, &["run", "--rm", "bad", "true"]);
            assert!(error.contains("inside of proc"), "{error}");
        }
        Root::default().fifo(name).image(&engine, "bad", &[]);
        if name != "etc" {
            sh(&engine, &[], "bad", "cat /etc/resolv.conf");
        }
    }
}

/// A FIFO as `/etc/passwd` hung exec and run of other engines for ever, and the engine's end with them;
/// a device node there would be opened.
#[test]
fn accounts_that_are_no_files() {
    let engine = Engine::start(BERTH);
    let said = "not a regular file";
    for name in ["etc/passwd", "etc/group"] {
        Root::default().fifo(name).image(&engine, "fifo", &[]);
        Root::default().device(name).image(&engine, "device", &[]);
        for image in ["fifo", "device"] {
            let error = engine.fails(125, &["run", "--rm", "-u", "alice", image, "true"]);
            assert!(error.contains(said), "{name} in {image}: {error}");
        }
    }
    // One that runs may change its mind.
    stays(&engine, &[], "busybox");
    engine.ok(&[
        "exec",
        "box",
        "sh",
        "-c",
        "rm /etc/passwd; mknod /etc/passwd p",
    ]);
    let ran = engine.run(&["exec", "-u", "alice", "box", "true"]);
    assert_eq!(ran.code, 126, "{ran:?}");
    assert!(format!("{}{}", ran.out, ran.err).contains(said), "{ran:?}");
    engine.ok(&["top", "box"]);
    engine.ok(&["stop", "-t", "0", "box"]);
    engine.ok(&["rm", "box"]);
}

/// CVE-2024-21626: a working directory that is reached through a descriptor.
#[test]
fn working_directories_lead_nowhere_outside() {
    let engine = Engine::start(BERTH);
    for fd in 3..14 {
        let dir = format!("/proc/self/fd/{fd}");
        Root::default().image(&engine, "bad", &[&format!("WORKDIR {dir}")]);
        engine.fails(125, &["run", "--rm", "bad", "ls", "../../.."]);
    }
    stays(&engine, &[], "busybox");
    engine.ok(&[
        "exec",
        "box",
        "ln",
        "-s",
        "/proc/self/fd/9/../../..",
        "/away",
    ]);
    let all = (3..40).map(|fd| format!("/proc/self/fd/{fd}"));
    for dir in all.chain(["/away".into(), "/proc/1/root".into(), "/proc/1/cwd".into()]) {
        let ran = engine.run(&["exec", "-w", &dir, "box", "true"]);
        assert_eq!(ran.code, 126, "{dir}: {ran:?}");
    }
}

/// CVE-2015-3630, CVE-2019-16884, CVE-2023-27561, CVE-2023-28642: a volume on `/proc` hides what checks
/// and masks look for.
#[test]
fn nothing_but_a_procfs_is_mounted_at_proc() {
    let engine = Engine::start(BERTH);
    for (path, why) in [
        ("/proc", "not of type proc"),
        ("/proc/sys", "inside of proc"),
        ("/proc/self/attr", "inside of proc"),
        ("/elsewhere", "inside of proc"),
    ] {
        let volume = format!("VOLUME {path}");
        Root::default()
            .link("elsewhere", "/proc")
            .image(&engine, "bad", &[&volume]);
        let error = engine.fails(125, &["run", "--rm", "bad", "true"]);
        assert!(error.contains(why), "{path}: {error}");
    }
    for flags in [
        ["-v", "/tmp:/proc"],
        ["--tmpfs", "/proc"],
        ["-v", "vol:/./proc/"],
    ] {
        let error = engine.fails(
            125,
            &[&["run", "--rm"], &flags[..], &["busybox", "true"]].concat(),
        );
        assert!(error.contains("not of type proc"), "{error}");
    }
}

/// CVE-2021-30465, CVE-2022-23648, CVE-2026-41567: a volume's place and first content, by links.
#[test]
fn volumes_by_links_stay_inside() {
    let engine = Engine::start_empty(BERTH, &[]);
    let canary = Canary::new(&engine);
    for target in [canary.path(), format!("../../../../../..{}", canary.path())] {
        Root::default()
            .link("data", &target)
            .image(&engine, "bad", &["VOLUME /data"]);
        assert_eq!(sh(&engine, &[], "bad", "ls /data/; touch /data/new"), "");
        canary.check(&target);
    }
    Root::default()
        .link("data", "/etc")
        .image(&engine, "inside", &["VOLUME /data"]);
    let found = sh(&engine, &[], "inside", "ls /data/ | grep -c passwd");
    assert_eq!(found, "1");
}

/// CVE-2018-15664, CVE-2026-42306: a link is swapped in while files are copied.
#[test]
fn copies_do_not_follow_what_is_swapped_in() {
    let engine = Engine::start(BERTH);
    let canary = Canary::new(&engine);
    let script = format!(
        "while :; do rm -rf /d; mkdir /d; echo inside > /d/file; mv /d /e; ln -s {} /d; rm /d; mv /e /d; done",
        canary.path()
    );
    engine.ok(&["run", "-d", "--name", "box", "busybox", "sh", "-c", &script]);
    let new = engine.dir_with("new", &[("new", "new\n")]);
    let new = new.join("new").display().to_string();
    for _ in 0..60 {
        // Whether it finds a directory is up to the race.
        engine.run(&["cp", &new, "box:/d/new"]);
        canary.check("cp into it");
        let ran = engine.run(&["cp", "-L", "box:/d/file", "-"]);
        assert!(!ran.out.contains("of the host"), "{}", ran.out);
    }
}

/// CVE-2026-41568, CVE-2026-42306: the directory above a mount point becomes a link to one of the host.
#[test]
fn a_mount_point_whose_parent_was_swapped() {
    let engine = Engine::start(BERTH);
    let canary = Canary::new(&engine);
    stays(&engine, &["-v", "data:/m/v"], "busybox");
    let swap = format!("mv /m /m2 && ln -s {} /m", canary.path());
    engine.ok(&["exec", "box", "sh", "-c", &swap]);
    let new = engine.dir_with("new", &[("new", "new\n")]);
    let new = new.join("new").display().to_string();
    for _ in 0..2 {
        engine.run(&["cp", &new, "box:/m/v/new"]);
        engine.run(&["cp", &new, "box:/m/new"]);
        canary.check("cp");
        let copy = engine
            .berth()
            .args(["cp", "box:/m", "-"])
            .stderr(Stdio::null())
            .output();
        let copy = copy.expect("a copy").stdout;
        assert!(!String::from_utf8_lossy(&copy).contains("of the host"));
        engine.run(&["kill", "box"]);
    }
    // It may start again or not: nothing is mounted outside.
    engine.run(&["start", "box"]);
    canary.check("start");
}
