//! docker-compose, 1.29 and v2, drives berth: a web app, a real PostgreSQL and a real Redis.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::engine::Engine;
use testkit::http::get_when_up;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// One version of compose with the project of `tests/compose`.
struct Compose<'a> {
    program: PathBuf,
    engine: &'a Engine,
    /// How it joins project, service and number.
    joint: char,
}

impl Compose<'_> {
    fn ok(&self, args: &[&str]) -> String {
        self.ok_with("0", args)
    }

    /// `no_cli`: whether 1.29 does its execs itself; else it runs a docker command, and says nothing
    /// where there is none.
    fn ok_with(&self, no_cli: &str, args: &[&str]) -> String {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.engine.path("bin")).chain(std::env::split_paths(&path));
        let output = Command::new(&self.program)
            .args(["-p", "visits"])
            .args(args)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose"))
            .env("DOCKER_HOST", self.engine.host())
            .env("DOCKER_CONFIG", self.engine.path("config"))
            .env("DOCKER_BUILDKIT", "0")
            // Else 1.29 has the docker command do its builds, which need not be here.
            .env("COMPOSE_DOCKER_CLI_BUILD", "0")
            .env("COMPOSE_INTERACTIVE_NO_CLI", no_cli)
            .env("PATH", std::env::join_paths(path).expect("paths"))
            .output()
            .expect("compose");
        assert!(
            output.status.success(),
            "{args:?}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn name(&self, service: &str, number: u32) -> String {
        format!("visits{joint}{service}{joint}{number}", joint = self.joint)
    }

    /// What the web app with this number answers.
    fn visit(&self, number: u32) -> String {
        let port = self.ok(&["port", "--index", &number.to_string(), "web", "8000"]);
        let address: SocketAddr = port.trim().parse().expect("an address");
        get_when_up(address, "/").trim_end().to_owned()
    }
}

fn up_use_and_down(program: PathBuf, joint: char) {
    let engine = Engine::start_empty(BERTH, &[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let made = Command::new(root.join("scripts/base-image"))
        .args([BERTH, "services"])
        .env("DOCKER_HOST", engine.host())
        .status()
        .expect("scripts/base-image");
    assert!(made.success(), "the base image could not be made");
    // The docker command is berth.
    std::fs::create_dir(engine.path("bin")).expect("a directory");
    std::os::unix::fs::symlink(BERTH, engine.path("bin").join("docker")).expect("a link");
    let compose = Compose {
        program,
        engine: &engine,
        joint,
    };

    compose.ok(&["up", "-d", "--build", "--scale", "web=2"]);
    let db = compose.name("db", 1);
    let status = engine.ok(&["inspect", "-f", "{{.State.Health.Status}}", &db]);
    assert_eq!(status, "healthy", "the web app waited for it");
    for (number, answer) in [
        (1, "1 counted, 1 rows"),
        (2, "2 counted, 2 rows"),
        (1, "3 counted, 3 rows"),
    ] {
        assert_eq!(compose.visit(number), answer);
    }

    // The web app is on both networks; database and cache are on the one without a way out.
    let networks = |name: &str| {
        engine.ok(&[
            "inspect",
            "-f",
            "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}",
            name,
        ])
    };
    assert_eq!(
        networks(&compose.name("web", 1)).trim(),
        "visits_back visits_front"
    );
    assert_eq!(networks(&db).trim(), "visits_back");
    assert_eq!(
        engine.ok(&["network", "inspect", "-f", "{{.Internal}}", "visits_back"]),
        "true"
    );
    // Names and aliases of services, from inside.
    let ask = [
        "exec",
        "-T",
        "web",
        "python3",
        "-c",
        "import socket; print(*sorted({a[4][0] for n in ('db', 'database') for a in socket.getaddrinfo(n, 1)}))",
    ];
    for no_cli in ["0", "1"] {
        let asked = compose.ok_with(no_cli, &ask);
        assert_eq!(
            asked.split_whitespace().count(),
            1,
            "one address by both names: {asked}"
        );
    }
    let limits = engine.ok(&[
        "inspect",
        "-f",
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}",
        &compose.name("web", 1),
    ]);
    assert_eq!(limits, "134217728 500000000");

    compose.ok(&["up", "-d", "--scale", "web=3"]);
    assert_eq!(compose.visit(3), "4 counted, 4 rows");
    compose.ok(&["up", "-d", "--scale", "web=1"]);
    assert_eq!(compose.ok(&["ps", "-q", "web"]).lines().count(), 1);
    let rows = compose.ok(&[
        "exec",
        "-T",
        "db",
        "psql",
        "-At",
        "-U",
        "app",
        "visits",
        "-c",
        "SELECT count(*), count(DISTINCT host) FROM visit",
    ]);
    assert_eq!(rows.trim(), "4|3");
    assert!(
        compose
            .ok(&["logs", "--no-color", "db"])
            .contains("ready to accept connections")
    );

    // The volume outlives `down`, the cache's memory does not.
    compose.ok(&["down"]);
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    compose.ok(&["up", "-d"]);
    assert_eq!(compose.visit(1), "1 counted, 5 rows");

    compose.ok(&["down", "-v"]);
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "");
    assert_eq!(
        engine.ok(&["network", "ls", "-q", "--filter", "type=custom"]),
        ""
    );
}

#[test]
fn compose_1_29() {
    match testkit::find_command("docker-compose") {
        Some(program) => up_use_and_down(program, '_'),
        None => testkit::skipped("docker-compose is missing: run scripts/prepare test"),
    }
}

#[test]
fn compose_v2() {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/compose-v2");
    if built.is_file() {
        up_use_and_down(built, '-');
    } else {
        testkit::skipped(
            "compose v2 is missing: run scripts/prepare test where there is a current Go",
        );
    }
}
