//! `berth context`: named places where engines are. No engine is needed for it.

use std::process::Command;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Home(tempfile::tempdir().expect("a directory"))
    }

    /// Runs `berth context …`: exit code, standard output, standard error.
    fn context(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_berth"))
            .arg("context")
            .args(args)
            .env_clear()
            .env("DOCKER_CONFIG", self.0.path())
            .output()
            .expect("the berth binary");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let code = output.status.code().expect("an exit code");
        (code, text(&output.stdout), text(&output.stderr))
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.context(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    }

    fn fails(&self, args: &[&str]) -> String {
        let (code, _, err) = self.context(args);
        assert_eq!(code, 1, "{args:?}");
        err
    }
}

#[test]
fn made_used_and_removed() {
    let home = Home::new();
    assert_eq!(home.ok(&["show"]), "default");
    let made = home.context(&[
        "create",
        "there",
        "--description",
        "a b",
        "--docker",
        "host=tcp://192.0.2.1:2375",
    ]);
    let said = "Successfully created context \"there\"";
    assert_eq!(made, (0, "there".to_owned(), said.to_owned()));
    let list = home.ok(&[
        "ls",
        "--format",
        "{{.Name}} {{.Current}} {{.DockerEndpoint}}",
    ]);
    assert_eq!(
        list,
        "default true unix:///run/berth/berth.sock\nthere false tcp://192.0.2.1:2375"
    );
    home.ok(&["use", "there"]);
    assert_eq!(home.ok(&["show"]), "there");
    assert_eq!(
        home.ok(&[
            "inspect",
            "-f",
            "{{.Metadata.Description}}: {{.Endpoints.docker.Host}}"
        ]),
        "a b: tcp://192.0.2.1:2375"
    );
    home.ok(&["update", "there", "--description", "c"]);
    home.ok(&["create", "copy", "--from", "there"]);
    assert_eq!(
        home.ok(&[
            "inspect",
            "-f",
            "{{.Metadata.Description}}: {{.Endpoints.docker.Host}}",
            "copy"
        ]),
        "c: tcp://192.0.2.1:2375"
    );
    assert_eq!(
        home.fails(&["rm", "there"]),
        "context \"there\" is in use, set -f flag to force remove"
    );
    assert_eq!(home.ok(&["rm", "-f", "there", "copy"]), "there\ncopy");
    assert_eq!(home.ok(&["show"]), "default");
    assert_eq!(home.ok(&["ls", "-q"]), "default");
}

#[test]
fn mistakes_are_said_in_docker_s_words() {
    let home = Home::new();
    home.ok(&["create", "one", "--docker", "host=unix:///nowhere"]);
    for (args, says) in [
        (&["create", "one"][..], "context \"one\" already exists"),
        (&["create", "x"], "names are validated against regexp"),
        (
            &["create", "default"],
            "\"default\" is a reserved context name",
        ),
        (
            &["create", "two", "--docker", "foo=x"],
            "unable to create docker endpoint config: unrecognized config key: foo",
        ),
        (
            &[
                "create",
                "two",
                "--docker",
                "host=tcp://x:1,ca=/nowhere/ca.pem",
            ],
            "open /nowhere/ca.pem: no such file or directory",
        ),
        (&["use", "two"], "context \"two\": context not found: open "),
        (&["rm", "two"], "context \"two\" does not exist"),
        (&["rm", "default"], "context \"default\" cannot be removed"),
        (&["inspect", "two"], "context \"two\": context not found"),
    ] {
        let err = home.fails(args);
        assert!(err.contains(says), "{args:?}: {err}");
    }
    // A context that leads nowhere can be left again.
    home.ok(&["create", "bad", "--docker", "host=bad://x"]);
    home.ok(&["use", "bad"]);
    home.ok(&["use", "default"]);
}

#[test]
fn tls_files_are_kept_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let pem = home.0.path().join("some.pem");
    std::fs::write(&pem, "certificate").expect("a file");
    let docker = format!("host=tcp://192.0.2.1:2376,ca={}", pem.display());
    home.ok(&["create", "safe", "--docker", &docker]);
    let dir = home.ok(&["inspect", "-f", "{{.Storage.TLSPath}}", "safe"]);
    let kept = std::path::Path::new(&dir).join("docker/ca.pem");
    let mode = std::fs::metadata(&kept)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&kept).expect("text"), "certificate");
    assert_eq!(
        home.ok(&["inspect", "-f", "{{json .TLSMaterial}}", "safe"]),
        "{\"docker\":[\"ca.pem\"]}"
    );
    home.ok(&["rm", "safe"]);
    assert!(!kept.exists());
}
