//! Who runs in a container, with which rights and words: users, groups, capabilities, variables, labels,
//! names.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn users_and_groups() {
    let engine = Engine::start(BERTH);
    let run = |line: &str| engine.line(&format!("run --rm --network none {line}"));
    assert_eq!(
        run("-u 1234:5678 busybox sh -c 'id -u; id -g'"),
        "1234\n5678"
    );
    assert_eq!(
        run("-u alice busybox sh -c 'id -u; echo $HOME'"),
        "1000\n/home/alice"
    );
    let groups = run("--group-add 777 --group-add 778 busybox id -G");
    assert!(groups.contains("777") && groups.contains("778"), "{groups}");
    for (flags, words) in [
        (
            "-u nobodyhere",
            "unable to find user nobodyhere: no matching entries in passwd file",
        ),
        ("--group-add nobodyhere", "unable to find group nobodyhere"),
        ("-w relative", "the working directory 'relative' is invalid"),
    ] {
        let err = engine.line_fails(125, &format!("run --rm {flags} busybox true"));
        assert!(err.contains(words), "{flags}: {err}");
    }
}

#[test]
fn capabilities_and_security_options() {
    let engine = Engine::start(BERTH);
    let status = |flags: &str, field: &str| {
        let all = engine.line(&format!(
            "run --rm --network none {flags} busybox grep ^{field}: /proc/self/status"
        ));
        all.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(status("", "CapEff"), "00000000a80425fb");
    assert_eq!(
        status("--cap-add SYS_PTRACE --cap-drop MKNOD", "CapEff"),
        "00000000a00c25fb"
    );
    assert_eq!(status("--cap-drop all", "CapBnd"), "0000000000000000");
    assert_eq!(status("", "Seccomp"), "2");
    assert_eq!(status("--security-opt seccomp=unconfined", "Seccomp"), "0");
    assert_eq!(
        status("--security-opt no-new-privileges", "NoNewPrivs"),
        "1"
    );
    // Privileged is what root of this machine is, no more.
    let own = std::fs::read_to_string("/proc/self/status").expect("a status");
    let own = own
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .expect("CapEff");
    let privileged = u64::from_str_radix(&status("--privileged", "CapEff"), 16).expect("a set");
    let own = u64::from_str_radix(own.trim(), 16).expect("a set");
    assert_eq!(privileged & !own, 0);
    for (flags, words) in [
        ("--cap-add bogus", "unknown capability: \"CAP_BOGUS\""),
        ("--security-opt bogus", "Invalid --security-opt: \"bogus\""),
    ] {
        let err = engine.line_fails(125, &format!("run --rm {flags} busybox true"));
        assert!(err.contains(words), "{flags}: {err}");
    }
}

#[test]
fn variables_labels_and_annotations() {
    let engine = Engine::start(BERTH);
    let dir = engine.dir_with(
        "files",
        &[
            ("env", "# no\nB=2\n\nC=from file\n"),
            ("labels", "x=1\ny=two words\n"),
        ],
    );
    let (env, labels) = (dir.join("env"), dir.join("labels"));
    let env = engine.line(&format!(
        "run --rm --network none --env-file {} -e A=1 -e B=3 busybox env",
        env.display()
    ));
    for line in ["A=1", "B=3", "C=from file", "HOME=/root"] {
        assert!(env.lines().any(|l| l == line), "{line}: {env}");
    }
    engine.line(&format!(
        "create --name c1 --label-file {} -l x=0 --annotation org.note=hi --cidfile {} busybox",
        labels.display(),
        engine.path("cid").display()
    ));
    let cid = std::fs::read_to_string(engine.path("cid")).expect("the ID");
    assert_eq!(engine.line("inspect -f {{.Id}} c1"), cid);
    assert_eq!(
        engine.line("inspect -f '{{.Config.Labels.x}} {{.Config.Labels.y}} {{index .HostConfig.Annotations \"org.note\"}}' c1"),
        "0 two words hi"
    );
    let err = engine.line_fails(
        1,
        &format!("create --cidfile {} busybox", engine.path("cid").display()),
    );
    assert!(err.contains("container ID file found"), "{err}");
}

#[test]
fn entrypoints_names_and_the_image_to_run() {
    let engine = Engine::start(BERTH);
    let run = |line: &str| engine.line(&format!("run --rm --network none {line}"));
    assert_eq!(run("--entrypoint echo busybox a b"), "a b");
    assert_eq!(run("--entrypoint '' busybox echo x"), "x");
    assert_eq!(
        run(
            "--hostname box --domainname here busybox sh -c 'hostname; cat /proc/sys/kernel/domainname'"
        ),
        "box\nhere"
    );
    assert_eq!(run("-w /new/dir busybox pwd"), "/new/dir");
    for (flags, words) in [
        (
            "--platform linux/arm64 busybox",
            "does not match the specified platform",
        ),
        ("--pull never nope", "No such image: nope:latest"),
        ("--pull bogus busybox", "invalid pull option: 'bogus'"),
        ("--stop-signal BOGUS busybox", "invalid signal: BOGUS"),
        ("--gpus all busybox", "could not select device driver"),
        (
            "--storage-opt size=1G busybox",
            "--storage-opt is not supported",
        ),
        ("--isolation hyperv busybox", "isolation"),
    ] {
        let err = engine.line_fails(125, &format!("run --rm {flags} true"));
        assert!(err.contains(words), "{flags}: {err}");
    }
}
