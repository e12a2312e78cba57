//! The official docker client against berth's socket.

use testkit::engine::{Engine, Ran, ran};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn the_official_client_is_at_home() {
    let engine = Engine::start(BERTH);
    let Some(version) = engine.docker_ok(&[
        "version",
        "--format",
        "{{.Server.APIVersion}} {{.Server.Experimental}} {{.Server.Os}}",
    ]) else {
        return;
    };
    assert!(
        version.starts_with("1.") && version.ends_with(" false linux"),
        "{version}"
    );
    let docker = |args: &[&str]| engine.docker_ok(args).expect("the client is here");
    let dir = engine.dir_with("ctx", &[("Dockerfile", "FROM busybox\nCOPY page /www/index.html\nCMD [\"httpd\",\"-f\",\"-p\",\"80\",\"-h\",\"/www\"]\n"), ("page", "Hello, World!\n")]);
    let built = docker(&["build", "-t", "web", dir.to_str().expect("a path")]);
    assert!(built.contains("Successfully tagged web:latest"), "{built}");
    let port = testkit::http::free_port();
    let id = docker(&[
        "run",
        "-d",
        "--name",
        "web1",
        "-p",
        &format!("{port}:80"),
        "web",
    ]);
    assert_eq!(
        testkit::http::get_when_up(([127, 0, 0, 1], port).into(), "/"),
        "Hello, World!\n"
    );
    assert_eq!(docker(&["ps", "--no-trunc", "-q"]), id);
    assert_eq!(
        docker(&["exec", "web1", "cat", "/www/index.html"]),
        "Hello, World!"
    );
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.Running}}", "web1"]),
        "true"
    );
    assert_eq!(docker(&["run", "--rm", "busybox", "echo", "hi"]), "hi");
    assert!(docker(&["images", "--format", "{{.Repository}}"]).contains("web"));
    assert!(docker(&["info", "--format", "{{.ContainersRunning}} {{.Images}}"]).starts_with("1 "));
    assert_eq!(docker(&["logs", "web1"]), "");
    docker(&["stop", "web1"]);
    docker(&["rm", "web1"]);
    assert_eq!(docker(&["ps", "-aq"]), "");
}

/// What the client makes of answers, not only of bodies: a status of its own for each stage.
#[test]
fn its_exit_codes_and_words() {
    let engine = Engine::start(BERTH);
    let run = |args: &[&str], input: &[u8]| -> Option<Ran> {
        Some(ran(engine.docker()?.args(args), Some(input)))
    };
    let Some(absent) = run(&["run", "--rm", "busybox", "absent"], b"") else {
        return;
    };
    let docker = |args: &[&str]| run(args, b"").expect("the client is here");
    assert_eq!(absent.code, 127, "{absent:?}");
    // Said once: the wait for its end does not say it again.
    assert_eq!(
        absent.err.matches("executable file not found").count(),
        1,
        "{absent:?}"
    );
    let ended = docker(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo o; echo e >&2; exit 42",
    ]);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (42, "o\n", "e\n"));
    for (args, says) in [
        (&["--network", "absent"][..], "network absent not found"),
        (
            &["--network", "container:absent"],
            "No such container: absent",
        ),
        (&["--volumes-from", "absent"], "No such container: absent"),
        (
            &["--runtime", "absent"],
            "unknown or invalid runtime name: absent",
        ),
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        all.extend(["busybox", "true"]);
        let refused = docker(&all);
        assert_eq!(refused.code, 125, "{args:?}: {refused:?}");
        assert!(refused.err.contains(says), "{args:?}: {refused:?}");
        // It does not take the answer for a missing image.
        assert!(!refused.err.contains("Unable to find image"), "{refused:?}");
    }
    assert_eq!(docker(&["ps", "-aq"]).out, "");

    let box_ = docker(&["run", "-d", "--name", "box1", "busybox", "sleep", "1000"]);
    assert_eq!(box_.code, 0, "{box_:?}");
    let absent = docker(&["exec", "box1", "absent"]);
    assert_eq!(absent.code, 127, "{absent:?}");
    assert!(
        absent.out.contains("executable file not found in $PATH"),
        "{absent:?}"
    );
    let piped = run(&["exec", "-i", "box1", "cat"], b"piped").expect("the client is here");
    assert_eq!((piped.code, &*piped.out), (0, "piped"));
    assert_eq!(
        docker(&["exec", "box1", "ls", "/.dockerenv"]).out,
        "/.dockerenv\n"
    );
    assert_eq!(docker(&["diff", "box1"]).out, "");
    let size = docker(&["ps", "-s", "--format", "{{.Size}}"]).out;
    assert!(size.starts_with("0B (virtual "), "{size}");
    let none = "{{json .Config.Volumes}} {{json .HostConfig.Binds}}";
    assert_eq!(docker(&["inspect", "-f", none, "box1"]).out, "null null\n");
    let again = docker(&["rm", "box1"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("container is running"), "{again:?}");
    assert_eq!(docker(&["rm", "-f", "box1"]).out, "box1\n");

    let dir = engine.dir_with("bad", &[("Dockerfile", "FROM busybox\nNONSENSE x\n")]);
    let built = docker(&["build", dir.to_str().expect("a path")]);
    assert_eq!(built.code, 1, "{built:?}");
    assert!(
        built
            .err
            .contains("Error response from daemon: dockerfile parse error on line 2: unknown instruction: NONSENSE"),
        "{built:?}"
    );
}

#[test]
fn a_terminal_can_be_left_and_taken_up_again() {
    let engine = Engine::start(BERTH);
    let Some(docker) = testkit::find_command("docker") else {
        testkit::skipped("the official docker client is not on this machine");
        return;
    };
    let Some(script) = testkit::find_command("script") else {
        testkit::skipped("script is not on this machine");
        return;
    };
    let docker = docker.display();
    // `script` gives the client a terminal; what is typed is its input.
    let typed = |command: &str, keys: &[&str]| {
        use std::io::{BufRead, BufReader, Write};
        let mut child = std::process::Command::new(&script)
            .args(["-qec", &format!("{docker} {command}"), "/dev/null"])
            .env("DOCKER_HOST", engine.host())
            .env("DOCKER_CONFIG", engine.path("config"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("script");
        let mut input = child.stdin.take().expect("its input");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut seen = String::new();
        for key in keys {
            input.write_all(key.as_bytes()).expect("a terminal");
            // The echo of a line, then its output.
            for _ in 0..if key.ends_with('\r') { 2 } else { 0 } {
                let mut line = String::new();
                output.read_line(&mut line).expect("a line");
                seen.push_str(&line);
            }
        }
        while output.read_line(&mut seen).expect("the rest") > 0 {}
        (child.wait().expect("its end").code(), seen)
    };
    let (code, seen) = typed(
        "run -it --name tty1 busybox cat",
        &["one\r", "\x10", "\x11"],
    );
    assert_eq!(code, Some(0), "{seen:?}");
    assert!(seen.contains("one\r\none\r\n"), "{seen:?}");
    let running = ["inspect", "-f", "{{.State.Running}}", "tty1"];
    assert_eq!(engine.docker_ok(&running).as_deref(), Some("true"));
    let (code, seen) = typed("attach tty1", &["two\r", "\x04"]);
    assert_eq!(code, Some(0), "{seen:?}");
    assert!(seen.contains("two\r\ntwo\r\n"), "{seen:?}");
    assert_eq!(engine.docker_ok(&running).as_deref(), Some("false"));
    let (code, seen) = typed(
        "run --rm -it busybox sh -c 'read x; stty size; exit 9'",
        &["go\r"],
    );
    assert_eq!(code, Some(9), "{seen:?}");
}
