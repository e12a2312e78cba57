//! Where contexts come from.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use berth_build::{BuildRequest, Context, ErrorKind};

use crate::bench::{Bench, File, context, request};

/// Answers every request on a port of its own with the same file, until the process ends.
fn serve(path: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let n = stream.read(&mut request).unwrap_or(0);
            let found = String::from_utf8_lossy(&request[..n]).starts_with(&format!("GET {path} "));
            let (status, body) = if found {
                ("200 OK", &body[..])
            } else {
                ("404 Not Found", &b""[..])
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body));
        }
    });
    url
}

#[test]
fn the_dockerfile_is_found() {
    let Some(bench) = Bench::new() else { return };
    let build = |name: &str, files: &[File<'_>]| {
        let named = BuildRequest {
            dockerfile: name.into(),
            ..request()
        };
        bench
            .build_tar(context(files), named)
            .result
            .map(|built| built.image_id)
    };
    let text = "FROM scratch\nCOPY . /\n";
    for (name, at) in [
        ("", "Dockerfile"),
        ("", "dockerfile"),
        ("sub/my.file", "sub/my.file"),
        ("./sub/../x", "x"),
        ("/../x", "x"),
    ] {
        let id = build(name, &[File::Text(at, text)]).unwrap();
        assert!(bench.has(&id, &format!("/{at}")), "{at}");
    }
    for (files, error) in [
        (vec![], "Cannot locate specified Dockerfile: x"),
        (
            vec![File::Text("x", "")],
            "the Dockerfile (x) cannot be empty",
        ),
        (vec![File::Dir("x")], "/x: not a regular file"),
        (
            vec![File::Link("x", "/etc/passwd")],
            "Cannot locate specified Dockerfile: x",
        ),
    ] {
        assert_eq!(build("x", &files).unwrap_err().to_string(), error);
    }
}

#[test]
fn only_comments_may_be_in_another_encoding() {
    let Some(bench) = Bench::new() else { return };
    let build = |text: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        builder
            .append_data(&mut header, "Dockerfile", text)
            .unwrap();
        bench.build_tar(builder.into_inner().unwrap(), request())
    };
    build(b"# caf\xe9\nFROM busybox\nENV A=1\n").id();
    let error = build(b"FROM busybox\nENV A=caf\xe9\n").result.unwrap_err();
    assert!(
        error.to_string().contains("not UTF-8 text: ENV A=caf"),
        "{error}"
    );
}

#[test]
fn compressed_contexts_and_ignored_dockerfiles() {
    let Some(bench) = Bench::new() else { return };
    let tar = context(&[
        File::Text("Dockerfile", "FROM scratch\nCOPY . /\n"),
        File::Text(".dockerignore", "Dockerfile\n.dockerignore\n"),
        File::Text("a", "x"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    for bytes in [tar, gzip.finish().unwrap()] {
        let id = bench.build_tar(bytes, request()).id();
        assert_eq!(bench.last_layer(&id), ["a"]);
    }
}

#[test]
fn contexts_by_url() {
    let Some(bench) = Bench::new() else { return };
    let tar = context(&[
        File::Text("Dockerfile", "FROM scratch\nCOPY . /\n"),
        File::Text(".dockerignore", "*.log\n"),
        File::Text("a", "x"),
        File::Text("b.log", "x"),
    ]);
    let remote = |url: String| bench.build_context(Context::Remote(url), request());
    let id = remote(serve("/c.tar", tar)).id();
    assert_eq!(bench.last_layer(&id), [".dockerignore", "Dockerfile", "a"]);
    let id = remote(serve("/my", b"FROM busybox\nENV A=1\n".to_vec())).id();
    assert!(bench.config(&id).config.env.contains(&"A=1".to_owned()));
    let error = remote("http://127.0.0.1:1/x".into()).result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(remote("/etc/passwd".into()).result.is_err());
    bench.assert_clean();
}

#[test]
fn add_by_url() {
    let Some(bench) = Bench::new() else { return };
    let url = serve("/f.tar", context(&[File::Text("inner", "x")]));
    let digest = berth_store::hash::sha256(&context(&[File::Text("inner", "x")]));
    let id = bench.ok(&format!("FROM scratch\nADD {url} /d/\n"), &[]);
    assert_eq!(bench.last_layer(&id), ["d/", "d/f.tar"]);
    assert_eq!(bench.owner(&id, "/d/f.tar"), (0o600, 0, 0));
    let stat = bench.root(&id).stat("/d/f.tar".as_ref()).unwrap();
    assert_eq!(stat.st_mtime, 1_445_412_480);
    let id = bench.ok(
        &format!("FROM scratch\nADD --checksum={digest} --unpack {url} /d/\n"),
        &[],
    );
    assert_eq!(bench.last_layer(&id), ["d/", "d/inner"]);
    let other = berth_store::hash::sha256(b"other");
    let error = bench.fails(
        &format!("FROM scratch\nADD --checksum={other} {url} /d/\n"),
        &[],
    );
    assert!(error.contains("digest mismatch"), "{error}");
    let error = bench.fails(&format!("FROM scratch\nADD {url}x /d/\n"), &[]);
    assert!(error.ends_with("with status 404 Not Found"), "{error}");
    // The same file again is no news.
    let again = bench.build(&format!("FROM scratch\nADD {url} /d/\n"), &[]);
    assert_eq!(again.hits(), 1);
}

/// A `git daemon` over one repository, ended with the value.
struct Daemon {
    child: std::process::Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Option<Self> {
        if !testkit::has_command("git") {
            testkit::skipped("git is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("app.git");
        let git = |args: &[&str]| {
            let done = Command::new("git")
                .args(["-c", "user.name=t", "-c", "user.email=t@t", "-C"])
                .arg(dir.path().join("app.git"))
                .args(args)
                .output()
                .unwrap();
            assert!(done.status.success(), "{args:?}: {done:?}");
        };
        std::fs::create_dir_all(repository.join("sub")).unwrap();
        git(&["init", "-q", "-b", "main"]);
        std::fs::write(repository.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
        std::fs::write(
            repository.join("sub/Dockerfile"),
            "FROM scratch\nCOPY f /\n",
        )
        .unwrap();
        std::fs::write(repository.join("sub/f"), "first").unwrap();
        git(&["add", "."]);
        git(&["commit", "-qm", "one"]);
        git(&["tag", "v1"]);
        std::fs::write(repository.join("sub/f"), "second").unwrap();
        git(&["commit", "-qam", "two"]);
        let port = testkit::http::free_port();
        let base = format!("--base-path={}", dir.path().display());
        // The program itself: `git daemon` would run it as a child, which nobody ends.
        let programs = Command::new("git").arg("--exec-path").output().ok()?.stdout;
        let programs = String::from_utf8(programs).ok()?;
        let child = Command::new(format!("{}/git-daemon", programs.trim()))
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &base])
            .arg(format!("--port={port}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        testkit::wait::until("git daemon", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some(Daemon {
            child,
            url: format!("git://127.0.0.1:{port}/app.git"),
            _dir: dir,
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn repositories() {
    let Some(bench) = Bench::new() else { return };
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let remote = |rest: &str| {
        let url = format!("{}{rest}", daemon.url);
        bench.build_context(Context::Remote(url), request())
    };
    let id = remote("").id();
    assert_eq!(bench.read(&id, "/sub/f"), "second");
    assert!(!bench.has(&id, "/.git"));
    let id = remote("#v1:sub").id();
    assert_eq!(bench.read(&id, "/f"), "first");
    let error = remote("#nope").result.unwrap_err().to_string();
    assert!(error.contains("nope"), "{error}");
    assert!(remote("#:../..").result.is_ok());
    assert!(remote("#:nope").result.is_err());
    let id = bench.ok(
        &format!("FROM scratch\nADD {}#v1:sub /d\n", daemon.url),
        &[],
    );
    assert_eq!(bench.read(&id, "/d/f"), "first");
    bench.assert_clean();
}
