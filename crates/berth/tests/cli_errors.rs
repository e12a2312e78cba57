//! What the command line says without an engine: mistakes, help, addresses where nobody is.

use std::process::{Command, Output, Stdio};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn berth(args: &[&str]) -> Output {
    let config = tempfile::tempdir().expect("a directory");
    Command::new(BERTH)
        .args(args)
        .env("DOCKER_HOST", "unix:///nowhere/engine.sock")
        .env("DOCKER_CONFIG", config.path())
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::null())
        .output()
        .expect("the berth binary")
}

fn fails(code: i32, args: &[&str]) -> String {
    let output = berth(args);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
    assert!(output.stdout.is_empty(), "{args:?}");
    err
}

fn usage(verb: &str, arguments: &str, see: &str) -> String {
    format!(
        "\n\nUsage:  berth {verb} {arguments}\n\n{see} 'berth {verb} --help' for more information\n"
    )
}

#[test]
fn mistakes_in_options_have_dockers_words() {
    const RUN: &str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    for (args, verb, arguments, error) in [
        (
            &["run", "--foo", "x"][..],
            "run",
            RUN,
            "unknown flag: --foo",
        ),
        (
            &["run", "-y"],
            "run",
            RUN,
            "unknown shorthand flag: 'y' in -y",
        ),
        (
            &["run", "-ity", "x"],
            "run",
            RUN,
            "unknown shorthand flag: 'y' in -y",
        ),
        (
            &["run", "-e"],
            "run",
            RUN,
            "flag needs an argument: 'e' in -e",
        ),
        (
            &["run", "--env"],
            "run",
            RUN,
            "flag needs an argument: --env",
        ),
        (
            &["run", "-m", "x", "y"],
            "run",
            RUN,
            "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'",
        ),
        (
            &["ps", "-a=x"],
            "ps",
            "[OPTIONS]",
            "invalid argument \"x\" for \"-a, --all\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (
            &["container", "stop", "-t", "x", "c"],
            "container stop",
            "[OPTIONS] CONTAINER [CONTAINER...]",
            "invalid argument \"x\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
    ] {
        assert_eq!(
            fails(125, args),
            format!("{error}{}", usage(verb, arguments, "Run")),
            "{args:?}"
        );
    }
}

#[test]
fn the_number_of_words_is_checked() {
    for (args, verb, arguments, error, see) in [
        (
            &["run"][..],
            "run",
            "[OPTIONS] IMAGE [COMMAND] [ARG...]",
            "requires at least 1 argument",
            "See",
        ),
        (
            &["ps", "x"],
            "ps",
            "[OPTIONS]",
            "accepts no arguments",
            "Run",
        ),
        (
            &["rename", "a"],
            "rename",
            "CONTAINER NEW_NAME",
            "requires 2 arguments",
            "Run",
        ),
    ] {
        assert_eq!(
            fails(1, args),
            format!(
                "berth: 'berth {verb}' {error}{}",
                usage(verb, arguments, see)
            )
        );
    }
}

#[test]
fn words_that_are_no_commands() {
    assert_eq!(
        fails(1, &["foo"]),
        "berth: unknown command: berth foo\n\nRun 'berth --help' for more information\n"
    );
    assert!(
        fails(1, &["container", "foo"])
            .starts_with("berth: unknown command: berth container foo\n")
    );
}

#[test]
fn options_end_at_the_image() {
    let err = fails(125, &["run", "image", "--foo"]);
    assert!(err.contains("Cannot connect to the Docker daemon at unix:///nowhere/engine.sock. Is the docker daemon running?"), "{err}");
}

#[test]
fn an_engine_that_is_not_there_is_told_by_its_address() {
    assert_eq!(
        fails(1, &["ps"]),
        "Cannot connect to the Docker daemon at unix:///nowhere/engine.sock. Is the docker daemon running?\n"
    );
    let err = fails(1, &["-H", "tcp://127.0.0.1:1", "ps"]);
    assert!(err.contains("tcp://127.0.0.1:1"), "{err}");
    let err = fails(1, &["--context", "nope", "ps"]);
    assert!(err.contains("context \"nope\": context not found"), "{err}");
    let err = fails(1, &["-H", "ftp://x", "ps"]);
    assert!(err.contains("unsupported protocol"), "{err}");
}

#[test]
fn help_and_version_need_no_engine() {
    for (args, begin) in [
        (&["--help"][..], "Usage:  berth [OPTIONS] COMMAND\n"),
        (
            &["run", "--help"],
            "Usage:  berth run [OPTIONS] IMAGE [COMMAND] [ARG...]\n",
        ),
        (&["help", "container"], "Usage:  berth container COMMAND\n"),
        (&["--version"], "berth version "),
        (&["completion", "bash"], "# bash completion of berth\n"),
    ] {
        let output = berth(args);
        assert!(output.status.success(), "{args:?}");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(out.starts_with(begin), "{args:?}: {out}");
    }
}

#[test]
fn called_docker_it_says_docker() {
    use std::os::unix::process::CommandExt;
    let output = Command::new(BERTH)
        .arg0("docker")
        .arg("foo")
        .output()
        .expect("berth");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "docker: unknown command: docker foo\n\nRun 'docker --help' for more information\n"
    );
}

#[test]
fn completion_offers_verbs_and_options() {
    let lines = |args: &[&str]| {
        let output = berth(args);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(lines(&["__complete", "--", "ren"]), "rename\n");
    assert_eq!(lines(&["__complete", "--", "volume", "pr"]), "prune\n");
    assert_eq!(lines(&["__complete", "--", "kill", "--s"]), "--signal\n");
}
