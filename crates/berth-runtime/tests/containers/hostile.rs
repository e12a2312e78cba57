//! Roots that were made by somebody who means harm. Each case is a flaw that some engine has had.

use std::os::unix::fs::symlink;

use berth_runtime::launcher::Launcher;
use berth_spec::oci::runtime::Mount;

use crate::bundle::Bundle;

/// CVE-2019-19921, CVE-2025-54867, CVE-2026-41579: `/proc`, `/sys` or `/dev` is a link.
pub fn links_instead_of_mount_points(launcher: &Launcher) {
    for name in ["proc", "sys", "dev"] {
        let bundle = Bundle::new("true");
        symlink("/tmp", bundle.root.join(name)).unwrap();
        let error = bundle.refusal(launcher);
        assert!(error.to_string().contains("ordinary directory"), "{error}");
    }
}

/// CVE-2024-21626: a working directory that is reached through a descriptor.
pub fn a_false_working_directory(launcher: &Launcher) {
    for fd in 3..20 {
        let mut bundle = Bundle::new("pwd; ls");
        let process = bundle.spec().process.as_mut().unwrap();
        process.cwd = format!("/proc/self/fd/{fd}");
        let error = bundle.refusal(launcher);
        assert!(!error.to_string().is_empty());
    }
    let mut bundle = Bundle::new("");
    symlink("/proc/self/fd/9/../../..", bundle.root.join("away")).unwrap();
    bundle.spec().process.as_mut().unwrap().cwd = "/away".into();
    bundle.refusal(launcher);
}

/// CVE-2019-16884, CVE-2023-28642: a mount hides what procfs checks depend on.
pub fn mounts_inside_proc_are_refused(launcher: &Launcher) {
    let refused = |destination: &str, link: Option<&str>, why: &str| {
        let mut bundle = Bundle::new("true");
        if let Some(link) = link {
            symlink(link, bundle.root.join(destination.trim_start_matches('/'))).unwrap();
        }
        bundle.spec().mounts.push(Mount {
            destination: destination.into(),
            source: "/tmp".into(),
            options: vec!["rbind".into()],
            ..Mount::default()
        });
        let error = bundle.refusal(launcher).to_string();
        assert!(error.contains(why), "{error}");
    };
    refused("/proc", None, "not of type proc");
    refused("/proc/sys", None, "inside of proc");
    refused("/elsewhere", Some("/proc"), "inside of proc");
    refused("/elsewhere", Some("/proc/self/attr"), "inside of proc");
}

/// CVE-2021-30465 and its kind: links that lead out are followed inside.
pub fn links_lead_nowhere_outside(launcher: &Launcher) {
    let mut bundle = Bundle::new("ls /inside/data; ls /out/stay");
    let outside = bundle.temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink("../../../../inside", bundle.root.join("climb")).unwrap();
    std::fs::create_dir(bundle.root.join("inside")).unwrap();
    symlink(&outside, bundle.root.join("absolute")).unwrap();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("file"), "").unwrap();
    for destination in ["/climb/data", "/absolute/made"] {
        bundle.spec().mounts.push(Mount {
            destination: destination.into(),
            source: source.path().display().to_string(),
            options: vec!["bind".into()],
            ..Mount::default()
        });
    }
    // The console, the masks and the nodes do not follow links either.
    let process = bundle.spec().process.as_mut().unwrap();
    process.args[2] = "ls /inside/data; ls -d /absolute/made".into();
    let out = bundle.spawn(launcher).unwrap();
    let kept = out.temp.path().join("outside");
    let mut client = out.client.try_clone().unwrap();
    let seen = crate::bundle::await_text(&mut client, "/absolute/made");
    assert!(seen.contains("file"), "{seen}");
    assert_eq!(std::fs::read_dir(kept).unwrap().count(), 0);
}

/// CVE-2019-5736: the runtime's own program, reached through `/proc/self/exe`.
pub fn the_own_binary_is_out_of_reach(launcher: &Launcher) {
    // An interpreter line makes the kernel run what /proc/self/exe was before the exec.
    let mut bundle = Bundle::new("");
    let script = bundle.root.join("evil");
    std::fs::write(&script, "#!/proc/self/exe\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    bundle.spec().process.as_mut().unwrap().args = vec!["/evil".into()];
    // Whether it runs or not: what it runs from cannot be written.
    let _ = bundle.spawn(launcher).map(|running| running.task.wait());
    assert!(berth_sys::executable::is_protected().unwrap());
    // Opening it for writing says ETXTBSY while it runs; this says what comes after.
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let change = std::fs::set_permissions("/proc/self/exe", executable);
    assert_eq!(change.unwrap_err().raw_os_error(), Some(30));
}

/// CVE-2024-40635, and what crun took: numbers that mean none, names with an end inside, ways out of the
/// trees of cgroups and devices.
pub fn documents_that_reach_too_far(launcher: &Launcher) {
    type Change = fn(&mut berth_spec::oci::runtime::Spec);
    let cases: [(Change, &str); 8] = [
        (
            |s| s.process.as_mut().unwrap().user.uid = u32::MAX,
            "4294967295",
        ),
        (
            |s| s.process.as_mut().unwrap().user.additional_gids = vec![1, u32::MAX],
            "4294967295",
        ),
        (|s| s.hostname = "a\0b".into(), "NUL"),
        (
            |s| s.process.as_mut().unwrap().args.push("a\0b".into()),
            "NUL",
        ),
        (
            |s| s.process.as_mut().unwrap().oom_score_adj = Some(99_999),
            "oomScoreAdj",
        ),
        (
            |s| {
                s.linux
                    .as_mut()
                    .unwrap()
                    .devices
                    .push(berth_spec::oci::runtime::Device {
                        path: "/dev/../../made".into(),
                        ..berth_runtime::defaults::devices().remove(0)
                    });
            },
            "not a clean",
        ),
        (
            |s| {
                let name = "net.ipv4.../../kernel/core_pattern";
                s.linux
                    .as_mut()
                    .unwrap()
                    .sysctl
                    .insert(name.into(), "x".into());
            },
            "is no name",
        ),
        (
            |s| {
                let name = "kernel.core_pattern";
                s.linux
                    .as_mut()
                    .unwrap()
                    .sysctl
                    .insert(name.into(), "x".into());
            },
            "not in a separate kernel namespace",
        ),
    ];
    for (change, why) in cases {
        let mut bundle = Bundle::new("true");
        change(bundle.spec());
        let error = bundle.refusal(launcher).to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    for path in ["../../x", "/../../../x", "/a/../../b", "/a/./b"] {
        let mut bundle = Bundle::new("true");
        bundle.spec().linux.as_mut().unwrap().cgroups_path = path.into();
        let error = match bundle.spawn(launcher) {
            Ok(_) => panic!("{path}: it started"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("invalid cgroup path"), "{path}: {error}");
    }
}
