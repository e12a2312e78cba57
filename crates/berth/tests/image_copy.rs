//! `image copy`: from engine to engine, without what the other side has.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use testkit::engine::{Engine, ran};

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// `mine/box:v1`, busybox with a layer of its own.
fn build(engine: &Engine) {
    let dir = engine.dir_with(
        "context",
        &[
            ("Dockerfile", "FROM busybox\nCOPY f /f\n"),
            ("f", "carried"),
        ],
    );
    let dir = dir.display().to_string();
    engine.ok(&["build", "-q", "-t", "mine/box:v1", &dir]);
}

#[test]
fn only_what_the_other_side_lacks_is_sent() {
    let one = Engine::start(BERTH);
    let two = Engine::start(BERTH);
    build(&one);
    let to = two.host();
    let said = one.ok(&["image", "copy", "mine/box:v1", &to]);
    assert!(
        said.contains("Sent 1 of 2 layers") && said.ends_with("mine/box:v1"),
        "{said}"
    );
    let id = ["images", "-q", "--no-trunc", "mine/box"];
    assert_eq!(two.ok(&id), one.ok(&id));
    assert_eq!(
        two.ok(&["run", "--rm", "mine/box:v1", "cat", "/f"]),
        "carried"
    );
    two.ok(&["image", "verify", "-q"]);
    // Nothing more than a name.
    let said = one.ok(&["image", "copy", "mine/box:v1", &to, "other:v2"]);
    assert!(
        said.contains("already there") && said.ends_with("other:v2"),
        "{said}"
    );
    assert_eq!(two.ok(&["run", "--rm", "other:v2", "cat", "/f"]), "carried");
    // All of it, to one that has nothing.
    let three = Engine::start_empty(BERTH, &[]);
    let said = one.ok(&["image", "copy", "-q", "mine/box:v1", &three.host(), "kept"]);
    assert!(said.contains("Sent 2 of 2 layers"), "{said}");
    let ran = three.ok(&["run", "--rm", "kept:latest", "cat", "/f"]);
    assert_eq!(ran, "carried");
}

#[test]
fn mistakes_are_told() {
    let one = Engine::start(BERTH);
    let err = one.fails(1, &["image", "copy", "nothing", &one.host()]);
    assert!(err.contains("No such image: nothing"), "{err}");
    let err = one.fails(1, &["image", "copy", "busybox", "far"]);
    assert!(err.contains("unable to parse docker host"), "{err}");
    let err = one.fails(1, &["image", "copy", "busybox", &one.host(), "A B"]);
    assert!(err.contains("invalid reference format"), "{err}");
    let err = one.fails(1, &["image", "copy", "busybox", "unix:///nowhere/x.sock"]);
    assert!(err.contains("/nowhere/x.sock"), "{err}");
}

/// An ssh server of the test's own on loopback, and an `ssh` that knows it.
struct Sshd {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Sshd {
    /// None, with the reason told, where there is no sshd.
    fn start() -> Option<Sshd> {
        let missing =
            || testkit::skipped("sshd, ssh or ssh-keygen is missing: install openssh-server");
        let (Some(sshd), Some(_), Some(ssh)) = (
            testkit::find_command("sshd"),
            testkit::find_command("ssh-keygen"),
            testkit::find_command("ssh"),
        ) else {
            missing();
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        for key in ["host", "mine"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)])
                .status();
            assert!(made.expect("ssh-keygen").success());
        }
        let port = testkit::http::free_port();
        // What is called `berth` there is the one that is tested; there is no `docker`.
        fs::create_dir(dir.path().join("bin")).expect("a directory");
        std::os::unix::fs::symlink(BERTH, dir.path().join("bin/berth")).expect("a link");
        std::os::unix::fs::symlink("/bin/sh", dir.path().join("bin/sh")).expect("a link");
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv PATH={}\n",
            at("host"),
            at("mine.pub"),
            at("bin"),
        );
        fs::write(dir.path().join("sshd_config"), config).expect("a file");
        // sshd wants it, and takes it from its package's start script.
        let _ = fs::create_dir_all("/run/sshd");
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd");
        fs::create_dir(dir.path().join("client")).expect("a directory");
        let script = format!(
            "#!/bin/sh\nexec {} -F none -i {} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR \"$@\"\n",
            ssh.display(),
            at("mine"),
        );
        let wrapper = dir.path().join("client/ssh");
        fs::write(&wrapper, script).expect("a script");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a mode");
        testkit::wait::until("sshd", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(Sshd { child, port, dir })
    }

    /// `PATH` with the `ssh` that knows this server.
    fn path(&self) -> String {
        let own = self.dir.path().join("client");
        format!(
            "{}:{}",
            own.display(),
            std::env::var("PATH").unwrap_or_default()
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn over_ssh() {
    let Some(sshd) = Sshd::start() else {
        return;
    };
    let one = Engine::start(BERTH);
    let two = Engine::start(BERTH);
    build(&one);
    let to = format!("ssh://root@127.0.0.1:{}/team/box:v3", sshd.port);
    let socket = two.host();
    let socket = socket.strip_prefix("unix://").expect("a socket");
    let copied = ran(
        one.berth().env("PATH", sshd.path()).args([
            "image",
            "copy",
            "--socket",
            socket,
            "mine/box:v1",
            &to,
        ]),
        None,
    );
    assert!(
        copied.code == 0 && copied.out.contains("Sent 1 of 2 layers"),
        "{copied:?}"
    );
    let ran = two.ok(&["run", "--rm", "team/box:v3", "cat", "/f"]);
    assert_eq!(ran, "carried");
}
