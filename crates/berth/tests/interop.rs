//! What others push, berth pulls, and the other way round: skopeo, crane, podman, buildah and Docker's
//! client with berth's registry and Debian's docker-registry, by TLS and with a password.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::engine::{Engine, ran};
use testkit::etc::PrivateEtc;
use testkit::registry::{Registry, USERS};
use testkit::served::Served;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A certificate for 127.0.0.1 that vouches for itself, and its key.
struct Certificate {
    dir: tempfile::TempDir,
}

impl Certificate {
    fn new() -> Certificate {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=test"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", &at("key.pem"), "-out", &at("ca.crt")])
            .output()
            .expect("openssl");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Certificate { dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }
}

/// Runs it to its end, which must be a good one; what it printed.
fn good(command: &mut Command) -> String {
    let ran = ran(command, None);
    assert_eq!(ran.code, 0, "{command:?}: {ran:?}");
    ran.out
}

/// An engine that trusts the certificate for this registry, and has logged in there.
fn engine_for(host: &str, certificate: &Certificate) -> Option<(Engine, PrivateEtc)> {
    let etc = PrivateEtc::new(&[])?;
    let dir = etc.file("berth/certs.d").join(host);
    fs::create_dir_all(&dir).expect("a directory");
    fs::copy(certificate.file(), dir.join("ca.crt")).expect("a copy");
    let engine = Engine::start_under(BERTH, &[], &etc.prefix());
    let login = ["login", "-u", "user", "--password-stdin", host];
    let said = engine.run_with_input(&login, b"secret");
    assert!(said.out.contains("Login Succeeded"), "{said:?}");
    Some((engine, etc))
}

/// Images go round by every tool that is here; all of them run in the end.
fn round(host: &str, certificate: &Certificate) {
    let Some((engine, _etc)) = engine_for(host, certificate) else {
        return;
    };
    engine.load_busybox();
    let first = format!("{host}/team/box:v1");
    engine.ok(&["tag", "busybox", &first]);
    engine.ok(&["push", "-q", &first]);
    let work = tempfile::tempdir().expect("a directory");
    let mut pushed = vec![first.clone()];
    for (tool, carry) in [
        ("skopeo", skopeo as fn(&World<'_>) -> String),
        ("crane", crane),
        ("podman", podman),
        ("buildah", buildah),
    ] {
        if !testkit::has_command(tool) {
            testkit::skipped(&format!("{tool} is missing"));
            continue;
        }
        let world = World {
            host,
            first: &first,
            certificates: certificate.dir.path(),
            certificate: certificate.file(),
            work: work.path(),
        };
        pushed.push(carry(&world));
    }
    let by_docker = format!("{host}/team/docker:v1");
    if engine.docker_ok(&["tag", &first, &by_docker]).is_some() {
        engine.docker_ok(&["push", &by_docker]);
        engine.docker_ok(&["rmi", &by_docker]);
        engine.docker_ok(&["pull", &by_docker]);
        pushed.push(by_docker);
    }
    let Some((other, _etc)) = engine_for(host, certificate) else {
        return;
    };
    for name in &pushed {
        other.ok(&["pull", "-q", name]);
        assert_eq!(
            other.ok(&["run", "--rm", name, "echo", "here"]),
            "here",
            "{name}"
        );
    }
    // The same layers and the same config, whoever carried them.
    let ids = other.ok(&["images", "-q", "--no-trunc"]);
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{pushed:?}: {ids:?}");
    other.ok(&["image", "verify", "-q"]);
}

struct World<'a> {
    host: &'a str,
    first: &'a str,
    /// A directory of certificates, as skopeo and its kin want it.
    certificates: &'a Path,
    certificate: PathBuf,
    work: &'a Path,
}

fn skopeo(world: &World<'_>) -> String {
    let to = format!("{}/by/skopeo:v1", world.host);
    let layout = format!("oci:{}/layout:x", world.work.display());
    let copy = |from: &str, into: &str| {
        let mut command = Command::new("skopeo");
        command.arg("copy");
        for (side, name) in [("src", from), ("dest", into)] {
            if name.starts_with("docker:") {
                command.arg(format!("--{side}-creds=user:secret"));
                command.arg(format!(
                    "--{side}-cert-dir={}",
                    world.certificates.display()
                ));
            }
        }
        good(command.args(["--preserve-digests", from, into]));
    };
    let from = format!("docker://{}", world.first);
    copy(&from, &format!("dir:{}/dir", world.work.display()));
    copy(&from, &format!("docker://{to}"));
    // By a layout of files, in OCI's form.
    let mut command = Command::new("skopeo");
    command
        .args(["copy", "--src-creds=user:secret"])
        .arg(format!("--src-cert-dir={}", world.certificates.display()));
    good(command.args([&from, &layout]));
    to
}

fn crane(world: &World<'_>) -> String {
    let to = format!("{}/by/crane:v1", world.host);
    let crane = |args: &[&str]| {
        let mut command = Command::new("crane");
        command
            .env("DOCKER_CONFIG", world.work.join("crane"))
            .env("SSL_CERT_FILE", &world.certificate)
            .args(args);
        good(&mut command)
    };
    crane(&["auth", "login", "-u", "user", "-p", "secret", world.host]);
    crane(&["copy", world.first, &to]);
    crane(&["validate", "--remote", &to]);
    assert_eq!(crane(&["digest", world.first]), crane(&["digest", &to]));
    let repository = to.trim_end_matches(":v1");
    assert_eq!(crane(&["ls", repository]), "v1\n");
    let tar = world.work.join("crane.tar").display().to_string();
    crane(&["pull", world.first, &tar]);
    let again = format!("{}/by/crane:v2", world.host);
    crane(&["push", &tar, &again]);
    to
}

/// Podman and buildah, with a store of their own.
fn container_tool(tool: &str, world: &World<'_>) -> String {
    let to = format!("{}/by/{tool}:v1", world.host);
    let root = world.work.join(tool);
    let run = |args: &[&str]| {
        let mut command = Command::new(tool);
        command
            .arg("--root")
            .arg(root.join("root"))
            .arg("--runroot")
            .arg(root.join("run"))
            .args(["--storage-driver", "vfs"])
            .args(&args[..1])
            .args(["--creds", "user:secret", "--cert-dir"])
            .arg(world.certificates)
            .args(&args[1..]);
        good(&mut command);
    };
    run(&["pull", world.first]);
    // As it came: not compressed anew.
    run(&["push", world.first, &format!("docker://{to}")]);
    to
}

fn podman(world: &World<'_>) -> String {
    container_tool("podman", world)
}

fn buildah(world: &World<'_>) -> String {
    container_tool("buildah", world)
}

#[test]
fn by_berths_registry() {
    let certificate = Certificate::new();
    let arguments = [
        "--tls-cert",
        "{dir}/ca.crt",
        "--tls-key",
        "{dir}/key.pem",
        "--htpasswd",
        "{dir}/users",
    ];
    let registry = Served::start_with(BERTH, &arguments, |dir| {
        fs::copy(certificate.file(), dir.join("ca.crt")).expect("a copy");
        fs::copy(certificate.key(), dir.join("key.pem")).expect("a copy");
        fs::write(dir.join("users"), USERS).expect("a file");
    });
    round(registry.host(), &certificate);
}

#[test]
fn by_debians_registry() {
    let certificate = Certificate::new();
    let Some(registry) = Registry::start_with_tls(&certificate.file(), &certificate.key()) else {
        return;
    };
    round(&registry.host(), &certificate);
}
