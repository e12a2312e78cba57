use super::*;
use crate::dockerfile::parse;

/// Applies instructions one after the other; answers the histories' texts.
fn run(config: &mut ExecConfig, source: &str) -> Result<Vec<String>> {
    let file = parse(&format!("FROM scratch\n{source}"), "Dockerfile").unwrap();
    let variables = Variables::from([
        ("V".to_owned(), "value".to_owned()),
        ("PORTS".to_owned(), "80 443/UDP".to_owned()),
    ]);
    let mut cmd_set = false;
    file.stages[0]
        .commands
        .iter()
        .map(|command| {
            apply(
                config,
                &command.instruction,
                &variables,
                file.escape,
                &mut cmd_set,
            )
            .map(|applied| applied.unwrap().comment)
        })
        .collect()
}

#[test]
fn histories_read_as_dockers() {
    let table = [
        ("ENV A=$V B='c d'", "ENV A=value B=c d"),
        ("ENV A b $V", "ENV A=b value"),
        ("LABEL a=b \"c d\"=e", "LABEL a=b c d=e"),
        ("MAINTAINER me", "MAINTAINER me"),
        (
            "CMD [\"python\", \"app.py\"]",
            "CMD [\"python\" \"app.py\"]",
        ),
        ("CMD echo hi", "CMD [\"/bin/sh\" \"-c\" \"echo hi\"]"),
        ("ENTRYPOINT []", "ENTRYPOINT []"),
        ("ENTRYPOINT [\"a\"]", "ENTRYPOINT [\"a\"]"),
        ("EXPOSE 5000", "EXPOSE 5000"),
        ("EXPOSE $PORTS", "EXPOSE 80 443/UDP"),
        ("USER $V:0", "USER value:0"),
        ("VOLUME /a $V", "VOLUME [/a value]"),
        ("VOLUME [\"/a b\"]", "VOLUME [/a b]"),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGTERM"),
        ("SHELL [\"/bin/bash\", \"-c\"]", "SHELL [/bin/bash -c]"),
        ("ONBUILD RUN x", "ONBUILD RUN x"),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'}",
        ),
    ];
    for (source, expected) in table {
        assert_eq!(
            run(&mut ExecConfig::default(), source).unwrap(),
            [expected],
            "{source}"
        );
    }
}

#[test]
fn the_configuration_follows() {
    let mut config = ExecConfig {
        env: vec!["PATH=/bin".into(), "A=old".into()],
        cmd: Some(vec!["base".into()]),
        ..Default::default()
    };
    run(&mut config, "ENV A=new B=b").unwrap();
    assert_eq!(config.env, ["PATH=/bin", "A=new", "B=b"]);
    run(
        &mut config,
        "EXPOSE 80-82 90/udp 127.0.0.1:1:2\nEXPOSE 8080:9090/tcp",
    )
    .unwrap();
    let ports: Vec<_> = config.exposed_ports.clone().unwrap().into_keys().collect();
    assert_eq!(
        ports,
        ["2/tcp", "80/tcp", "81/tcp", "82/tcp", "90/udp", "9090/tcp"]
    );
    // ENTRYPOINT drops the base image's CMD, but not the stage's own.
    run(&mut config, "ENTRYPOINT [\"x\"]").unwrap();
    assert_eq!(config.cmd, None);
    run(&mut config, "CMD [\"c\"]\nENTRYPOINT [\"x\"]").unwrap();
    assert_eq!(config.cmd.as_deref(), Some(&["c".to_owned()][..]));
    run(&mut config, "SHELL [\"bash\", \"-c\"]\nCMD a b").unwrap();
    assert_eq!(config.cmd.unwrap(), ["bash", "-c", "a b"]);
}

#[test]
fn what_is_refused() {
    for (source, error) in [
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 80/icmp", "invalid proto: icmp"),
        ("EXPOSE 90-80", "invalid containerPort: 90-80"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("ENV $NOTHING=d", "invalid environment variable: =d"),
        ("STOPSIGNAL SIGNOPE", "invalid signal: SIGNOPE"),
        ("STOPSIGNAL 0", "invalid signal: 0"),
        (
            "VOLUME $NOTHING",
            "VOLUME specified can not be an empty string",
        ),
        (
            "ENV A=${B",
            "failed to process \"${B\": syntax error: missing '}'",
        ),
    ] {
        let result = run(&mut ExecConfig::default(), source);
        assert_eq!(result.unwrap_err().to_string(), error, "{source}");
    }
    for good in ["9", "KILL", "sigrtmin+3", "RTMAX-1"] {
        check_signal(good).unwrap();
    }
}

#[test]
fn working_directories_are_joined() {
    for (current, path, expected) in [
        ("", "/app", "/app"),
        ("/app", "src", "/app/src"),
        ("/app", "/x/../y/", "/y"),
        ("", "a", "/a"),
        ("/a", "../..", "/"),
    ] {
        assert_eq!(workdir(current, path).unwrap(), expected);
    }
    assert!(workdir("/", "").is_err());
}
