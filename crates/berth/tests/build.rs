//! `berth build`: Dockerfiles to images.

use testkit::engine::Engine;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn build(
    engine: &Engine,
    name: &str,
    files: &[(&str, &str)],
    args: &[&str],
) -> testkit::engine::Ran {
    let dir = engine.dir_with(name, files);
    let dir = dir.to_str().expect("a path").to_owned();
    engine.run(&[&["build"], args, &[&dir]].concat())
}

#[test]
fn steps_cache_and_result() {
    let engine = Engine::start(BERTH);
    let dockerfile = "FROM busybox\nARG WHO=world\nENV GREETING=hello\nWORKDIR /app\nCOPY . .\nRUN echo \"$GREETING $WHO\" > out && cat data/in.txt >> out\nUSER 1000\nCMD [\"cat\", \"/app/out\"]\n";
    let files = [
        ("Dockerfile", dockerfile),
        ("data/in.txt", "from the context\n"),
        (".dockerignore", "secret*\n"),
        ("secret.txt", "x"),
    ];
    let ran = build(
        &engine,
        "a",
        &files,
        &["-t", "app", "--build-arg", "WHO=you"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    for text in [
        "Step 1/8 : FROM busybox",
        "Step 6/8 : RUN echo",
        "Successfully built ",
        "Successfully tagged app:latest",
    ] {
        assert!(ran.out.contains(text), "{text}: {}", ran.out);
    }
    assert_eq!(
        engine.ok(&["run", "--rm", "app"]),
        "hello you\nfrom the context"
    );
    assert_eq!(
        engine.ok(&["run", "--rm", "app", "ls", "/app"]),
        "Dockerfile\ndata\nout"
    );
    assert_eq!(
        engine.ok(&[
            "inspect",
            "-f",
            "{{.Config.User}} {{.Config.WorkingDir}}",
            "app"
        ]),
        "1000 /app"
    );

    let id = engine.ok(&["images", "-q", "app"]);
    let again = build(
        &engine,
        "a",
        &files,
        &["-t", "app", "--build-arg", "WHO=you"],
    );
    assert_eq!(again.out.matches("Using cache").count(), 7, "{}", again.out);
    assert_eq!(engine.ok(&["images", "-q", "app"]), id, "the same image");
    let other = build(
        &engine,
        "a",
        &files,
        &["-t", "app", "--build-arg", "WHO=me"],
    );
    assert!(
        other.out.matches("Using cache").count() < 7,
        "{}",
        other.out
    );
    let quiet = build(&engine, "a", &files, &["-q"]);
    assert!(
        quiet.out.starts_with("sha256:") && quiet.out.trim().len() == 71,
        "{quiet:?}"
    );
}

#[test]
fn several_stages() {
    let engine = Engine::start(BERTH);
    let dockerfile = "FROM busybox AS made\nRUN mkdir /out && echo built > /out/thing\nFROM busybox AS unused\nRUN false\nFROM scratch\nCOPY --from=made /out/ /\nCOPY --from=busybox /bin/busybox /bin/cat\nENTRYPOINT [\"/bin/cat\"]\nCMD [\"/thing\"]\n";
    let ran = build(
        &engine,
        "s",
        &[("Dockerfile", dockerfile)],
        &["-t", "staged"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(engine.ok(&["run", "--rm", "staged"]), "built");
    let ran = build(
        &engine,
        "s",
        &[("Dockerfile", dockerfile)],
        &["--target", "unused"],
    );
    assert_ne!(ran.code, 0, "its RUN fails");
}

#[test]
fn failures_are_said_and_leave_nothing() {
    let engine = Engine::start(BERTH);
    for (dockerfile, says) in [
        (
            "FROM busybox\nRUN exit 3\n",
            "The command '/bin/sh -c exit 3' returned a non-zero code: 3",
        ),
        (
            "FROM busybox\nNONSENSE x\n",
            "unknown instruction: NONSENSE",
        ),
        ("FROM busybox\nCOPY missing /\n", "missing"),
        ("", "cannot be empty"),
        ("RUN true\n", "no build stage in current context"),
        ("FROM busybox\nCOPY ../../etc/passwd /\n", "passwd"),
    ] {
        let ran = build(&engine, "f", &[("Dockerfile", dockerfile)], &[]);
        assert_ne!(ran.code, 0, "{dockerfile}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains(says), "{dockerfile}: {said}");
    }
    let dir = engine.dir_with("none", &[("x", "")]);
    let err = engine.fails(1, &["build", dir.to_str().expect("a path")]);
    assert!(err.contains("Dockerfile"), "{err}");
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    assert_eq!(engine.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn nothing_of_the_host_stays_in_the_image() {
    let engine = Engine::start(BERTH);
    let dockerfile = "FROM busybox\nRUN env | sort > /env; touch /made\n";
    let ran = build(
        &engine,
        "p",
        &[("Dockerfile", dockerfile)],
        &["-t", "clean"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let env = engine.ok(&["inspect", "-f", "{{json .Config.Env}}", "clean"]);
    assert!(
        !env.contains("SSL_CERT_FILE") && !env.to_lowercase().contains("proxy"),
        "{env}"
    );
    // The layer holds what the step wrote, and no mount point that berth needed.
    let file = engine.path("clean.tar");
    engine.ok(&["save", "-o", file.to_str().expect("a path"), "clean"]);
    let left = engine.ok(&[
        "run",
        "--rm",
        "clean",
        "sh",
        "-c",
        "ls -A /run /etc 2>/dev/null; ls -A / | sort",
    ]);
    assert!(!left.contains("berth"), "{left}");
}

#[test]
fn contexts_from_standard_input() {
    let engine = Engine::start(BERTH);
    let dockerfile = "FROM busybox\nCOPY . /c\nCMD [\"ls\", \"-A\", \"/c\"]\n";
    let dir = engine.dir_with("in", &[("file", "x"), ("other/Dockerfile", dockerfile)]);
    let dir = dir.to_str().expect("a path");

    // A Dockerfile from standard input, or from elsewhere: no step sees it, the cache does.
    let args = ["build", "-t", "in", "-f", "-", dir];
    let ran = engine.run_with_input(&args, dockerfile.as_bytes());
    assert_eq!(ran.code, 0, "{ran:?}");
    let seen = engine.ok(&["run", "--rm", "in"]);
    assert_eq!(seen, "file\nother");
    let again = engine.run_with_input(&args, dockerfile.as_bytes());
    assert_eq!(again.out.matches("Using cache").count(), 2, "{}", again.out);
    let elsewhere = engine.dir_with("elsewhere", &[("D", dockerfile)]).join("D");
    let file = elsewhere.to_str().expect("a path");
    let same = engine.ok(&["build", "-q", "-f", file, dir]);
    assert_eq!(engine.ok(&["inspect", "-f", "{{.Id}}", "in"]), same);

    // A Dockerfile alone.
    let ran = engine.run_with_input(&["build", "-"], b"FROM busybox\nRUN test ! -e /c\n");
    assert_eq!(ran.code, 0, "{ran:?}");

    // An archive: what `save` writes is one too, without a Dockerfile.
    let tar = engine.path("busybox.tar");
    let tar = std::fs::read(tar).expect("an archive");
    let ran = engine.run_with_input(&["build", "-"], &tar);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err
            .contains("Cannot locate specified Dockerfile: Dockerfile"),
        "{ran:?}"
    );
    let ran = engine.run_with_input(&["build", "-f", "-", "-"], b"");
    assert!(ran.err.contains("can't use stdin for both"), "{ran:?}");
}

#[test]
fn what_the_ignore_file_keeps_here() {
    let engine = Engine::start(BERTH);
    let dockerfile = "FROM busybox\nCOPY . /c\nCMD find /c -type f | sort\n";
    let files = [
        (
            ".dockerignore",
            "**/*.log\nvendor\n!vendor/keep/this\nDockerfile\n",
        ),
        ("Dockerfile", dockerfile),
        ("a.log", ""),
        ("src/b.log", ""),
        ("src/main", ""),
        ("vendor/drop", ""),
        ("vendor/keep/this", ""),
        ("vendor/keep/not", ""),
    ];
    let ran = build(&engine, "ignored", &files, &["-t", "ignored"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        engine.ok(&["run", "--rm", "ignored"]),
        "/c/.dockerignore\n/c/src/main\n/c/vendor/keep/this"
    );
}

#[test]
fn the_id_in_a_file_and_flags_of_another_builder() {
    let engine = Engine::start(BERTH);
    let id = engine.path("id");
    std::fs::write(&id, "stale").expect("a file");
    let file = id.to_str().expect("a path");
    let files = [(
        "Dockerfile",
        "FROM busybox\nARG FAIL\nRUN test -z \"$FAIL\" || exit 7\n",
    )];
    let ran = build(
        &engine,
        "i",
        &files,
        &["--iidfile", file, "--build-arg", "FAIL=1"],
    );
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(!id.exists(), "a stale ID does not survive");
    let passed = [
        "--provenance=false",
        "--sbom=false",
        "--load",
        "--progress",
        "plain",
    ];
    let ran = build(
        &engine,
        "i",
        &files,
        &[&["--iidfile", file, "--compress"], &passed[..]].concat(),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = std::fs::read_to_string(&id).expect("an ID");
    assert_eq!(engine.ok(&["inspect", "-f", "{{.Id}}", &id]), id);
    for (args, flag) in [
        (&["--secret", "id=x"][..], "--secret"),
        (&["--output", "type=local,dest=x"], "--output"),
        (&["--build-context", "a=b"], "--build-context"),
        (&["--provenance"], "--provenance"),
    ] {
        let ran = build(&engine, "i", &files, args);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!(
            ran.err.trim_end(),
            format!("{flag} needs BuildKit, and this is the classic builder")
        );
    }
}
