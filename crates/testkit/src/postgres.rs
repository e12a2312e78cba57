//! A real PostgreSQL server: Debian's `postgresql`, in a throw-away directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running server, reached by a socket; gone when dropped.
pub struct Postgres {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    /// Starts one, or says why not.
    pub fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// Starts one that is reached by TCP as well, with this certificate and its key (PEM), by whoever
    /// knows that `berth`'s password is `secret`.
    pub fn start_encrypted(certificate: &str, key: &str) -> Option<Self> {
        Self::start_with(Some((certificate, key)))
    }

    fn start_with(tls: Option<(&str, &str)>) -> Option<Self> {
        let Some(bin) = programs() else {
            crate::skipped("postgresql is missing: run scripts/prepare test");
            return None;
        };
        let dir = tempfile::Builder::new()
            .prefix("berth-postgres-")
            .tempdir()
            .expect("a directory");
        // The server refuses to run as root.
        let user = owner();
        chown(dir.path(), Some(user), Some(user)).expect("the directory's owner");
        let data = dir.path().join("data");
        make_cluster(&bin, dir.path(), &data, user);
        let port = tls.map_or(5432, |_| crate::http::free_port());
        let mut server = Command::new(bin.join("postgres"));
        if let Some((certificate, key)) = tls {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                let path = data.join(name);
                fs::write(&path, text).expect("a file");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
                chown(&path, Some(user), Some(user)).expect("its owner");
            }
            server.args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on"]);
        } else {
            server.args(["-c", "listen_addresses="]);
        }
        let mut child = server
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "fsync=off", "-p", &port.to_string()])
            .current_dir(dir.path())
            .uid(user)
            .gid(user)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("ready to accept connections"));
        assert!(ready, "postgres ended at once: {:?}", child.wait());
        // It must not wait for somebody to read what else it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self { child, dir, port })
    }

    /// Makes the database `name`; its address, as a registry is told.
    pub fn database(&self, name: &str) -> String {
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        format!(
            "postgres:///{name}?user=berth&port={}&host={}",
            self.port,
            self.dir.path().display()
        )
    }

    /// `127.0.0.1:port`, where it is reached by TCP.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs SQL in the database `name`; what it prints, a row a line, columns apart by `|`.
    pub fn run(&self, name: &str, sql: &str) -> String {
        let output = Command::new("psql")
            .args(["-h"])
            .arg(self.dir.path())
            .args(["-p", &self.port.to_string(), "-U", "berth", "-d", name])
            .args(["-At", "-c", sql])
            .output()
            .expect("psql");
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The fast way: it ends its connections.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

fn make_cluster(bin: &Path, dir: &Path, data: &Path, user: u32) {
    let password = dir.join("password");
    fs::write(&password, "secret\n").expect("a password");
    let made = Command::new(bin.join("initdb"))
        .args([
            "--no-sync",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        ])
        .args(["--username=berth", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--pwfile={}", password.display()))
        .arg("-D")
        .arg(data)
        .current_dir(dir)
        .uid(user)
        .gid(user)
        .output()
        .expect("initdb");
    assert!(
        made.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

/// Where `initdb` and `postgres` are: Debian keeps them apart, by version.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop()
}

/// `postgres` where there is such a user, else `nobody`.
fn owner() -> u32 {
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    users
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == "postgres").then(|| fields.nth(1)?.parse().ok())?
        })
        .unwrap_or(65534)
}
