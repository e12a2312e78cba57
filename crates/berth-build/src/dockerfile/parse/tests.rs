use super::*;

fn only(source: &str) -> Instruction {
    let file = parse(&format!("FROM scratch\n{source}"), "Dockerfile").unwrap();
    let mut commands = file.stages.into_iter().next().unwrap().commands;
    assert_eq!(commands.len(), 1, "{source}");
    commands.remove(0).instruction
}

fn error(source: &str) -> String {
    parse(source, "Dockerfile").unwrap_err().to_string()
}

#[test]
fn stages_and_arguments() {
    let file = parse(
        "ARG V=3.9\nARG A B=c\nFROM --platform=$X python:$V AS Base\nRUN a\nfrom base\nrun b\nRUN c\n",
        "Dockerfile",
    )
    .unwrap();
    assert_eq!(file.arguments.len(), 2);
    assert_eq!(file.stages.len(), 2);
    assert_eq!(file.stages[0].base, "python:$V");
    assert_eq!(file.stages[0].name.as_deref(), Some("base"));
    assert_eq!(file.stages[0].platform.as_deref(), Some("$X"));
    assert_eq!(file.stages[1].base, "base");
    assert_eq!(file.stages[1].commands.len(), 2);
    assert_eq!(file.stages[1].commands[0].text, "run b");
}

#[test]
fn commands_in_both_forms() {
    let table: &[(&str, Option<&[&str]>, bool)] = &[
        ("CMD a  b", Some(&["a  b"]), true),
        ("CMD [\"a\", \"b\"]", Some(&["a", "b"]), false),
        ("CMD []", Some(&[]), false),
        ("CMD [\"a\"", Some(&["[\"a\""]), true),
        ("CMD ['a']", Some(&["['a']"]), true),
        ("ENTRYPOINT []", None, false),
        ("ENTRYPOINT a", Some(&["a"]), true),
    ];
    for (source, args, shell) in table {
        let (Instruction::Cmd(line) | Instruction::Entrypoint(line)) = only(source) else {
            panic!("{source}");
        };
        let expected = args.map(|args| args.iter().map(|s| s.to_string()).collect());
        assert_eq!(
            line,
            CommandLine {
                args: expected,
                shell: *shell
            },
            "{source}"
        );
    }
}

#[test]
fn copies() {
    let Instruction::Copy(copy) =
        only("COPY --from=base --chown=a:b --chmod=755 --link --exclude=x --exclude=y a b /d/")
    else {
        panic!();
    };
    assert_eq!(copy.sources, ["a", "b"]);
    assert_eq!(copy.destination, "/d/");
    assert_eq!(copy.from.as_deref(), Some("base"));
    assert_eq!(copy.chown.as_deref(), Some("a:b"));
    assert_eq!(copy.exclude, ["x", "y"]);
    let Instruction::Copy(copy) = only("COPY [\"a b\", \"/c d/\"]") else {
        panic!();
    };
    assert_eq!(
        (copy.sources.len(), copy.destination.as_str()),
        (1, "/c d/")
    );
    let Instruction::Copy(copy) = only("COPY <<a x <<\"b\" /d/\none $v\na\ntwo\nb") else {
        panic!();
    };
    assert_eq!(copy.sources, ["x"]);
    let files: Vec<_> = copy
        .files
        .iter()
        .map(|f| (f.name.as_str(), f.data(), f.expand))
        .collect();
    assert_eq!(
        files,
        [
            ("a", "one $v\n".to_owned(), true),
            ("b", "two\n".to_owned(), false)
        ]
    );
    let Instruction::Add(add) = only("ADD --checksum=sha256:00 --unpack=false http://x/y /z")
    else {
        panic!();
    };
    assert_eq!(add.unpack, Some(false));
}

#[test]
fn the_others() {
    let Instruction::Env(env) = only("ENV A=1 B=\"2 3\"") else {
        panic!()
    };
    assert_eq!(env[1], ("B".to_owned(), "\"2 3\"".to_owned()));
    let Instruction::Expose(ports) = only("EXPOSE 90 80/udp") else {
        panic!()
    };
    assert_eq!(ports, ["80/udp", "90"]);
    let Instruction::Healthcheck(check) =
        only("HEALTHCHECK --interval=5m --timeout=3s --retries=2 CMD curl -f x || exit 1")
    else {
        panic!()
    };
    assert_eq!(check.test, ["CMD-SHELL", "curl -f x || exit 1"]);
    assert_eq!((check.interval, check.retries), (300_000_000_000, 2));
    let Instruction::Healthcheck(check) = only("HEALTHCHECK CMD [\"a\", \"b\"]") else {
        panic!()
    };
    assert_eq!(check.test, ["CMD", "a", "b"]);
    let Instruction::Onbuild(text) = only("ONBUILD  RUN echo a  b") else {
        panic!()
    };
    assert_eq!(text, "RUN echo a  b");
    let Instruction::Onbuild(text) = only("ONBUILD COPY <<x /y\nz\nx") else {
        panic!()
    };
    assert_eq!(text, "COPY <<x /y\nz\nx");
    let Instruction::Shell(shell) = only("SHELL [\"/bin/bash\", \"-c\"]") else {
        panic!()
    };
    assert_eq!(shell.len(), 2);
    let Instruction::Volume(volumes) = only("VOLUME /a /b") else {
        panic!()
    };
    assert_eq!(volumes, ["/a", "/b"]);
    let Instruction::Maintainer(name) = only("MAINTAINER A B <c@d>") else {
        panic!()
    };
    assert_eq!(name, "A B <c@d>");
    let Instruction::Run(run) = only("RUN --mount=target=/x --network=none a <<EOF\nb\nEOF") else {
        panic!()
    };
    assert_eq!(
        (run.mounts.len(), run.network.as_deref()),
        (1, Some("none"))
    );
    assert_eq!(run.heredocs[0].content, "b\n");
}

#[test]
fn errors_are_dockers() {
    for (source, text) in [
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        (
            "# x\n",
            "failed to parse Dockerfile: file with no instructions",
        ),
        (
            "FROM a\n\nFOO x",
            "dockerfile parse error on line 3: unknown instruction: FOO (did you mean FROM?)",
        ),
        (
            "FROM a\nRUNN x",
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        (
            "RUN x",
            "dockerfile parse error on line 1: no build stage in current context",
        ),
        ("ARG x", "No image was generated. Is your Dockerfile empty?"),
        (
            "FROM",
            "dockerfile parse error on line 1: FROM requires either one or three arguments",
        ),
        (
            "FROM a b",
            "dockerfile parse error on line 1: FROM requires either one or three arguments",
        ),
        (
            "FROM a AS 1b",
            "dockerfile parse error on line 1: invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        (
            "FROM a\nCOPY x",
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nCOPY --form=x a b",
            "dockerfile parse error on line 2: unknown flag: --form (did you mean from?)",
        ),
        (
            "FROM a\nENV x",
            "dockerfile parse error on line 2: ENV must have two arguments",
        ),
        (
            "FROM a\nENV",
            "dockerfile parse error on line 2: ENV requires at least one argument",
        ),
        (
            "FROM a\nENV =b",
            "dockerfile parse error on line 2: ENV names can not be blank",
        ),
        (
            "FROM a\nWORKDIR",
            "dockerfile parse error on line 2: WORKDIR requires exactly one argument",
        ),
        (
            "FROM a\nONBUILD FROM b",
            "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger",
        ),
        (
            "FROM a\nONBUILD ONBUILD RUN b",
            "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "FROM a\nHEALTHCHECK NONE x",
            "dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments",
        ),
        (
            "FROM a\nHEALTHCHECK CMD",
            "dockerfile parse error on line 2: Missing command after HEALTHCHECK CMD",
        ),
        (
            "FROM a\nHEALTHCHECK FOO x",
            "dockerfile parse error on line 2: Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=1ns CMD x",
            "dockerfile parse error on line 2: Interval \"interval\" cannot be less than 1ms",
        ),
        (
            "FROM a\nSHELL bash",
            "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form. original instruction: \"SHELL bash\"",
        ),
        (
            "FROM a\nCMD [1]",
            "dockerfile parse error on line 2: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        (
            "FROM a\nRUN --security=insecure x",
            "dockerfile parse error on line 2: RUN --security=insecure is not allowed: steps run in a sandbox",
        ),
        (
            "FROM a\nCOPY a <<EOF\nEOF",
            "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination",
        ),
        (
            "FROM a\nVOLUME [\"\"]",
            "dockerfile parse error on line 2: VOLUME specified can not be an empty string",
        ),
    ] {
        assert_eq!(error(source), text, "{source:?}");
    }
}
