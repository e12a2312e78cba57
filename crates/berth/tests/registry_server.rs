//! `berth registry serve`: images go in and come out again, by berth and by Docker's client.

use std::process::Command;

use testkit::engine::{Engine, ran};
use testkit::postgres::Postgres;
use testkit::s3::{BUCKET, KEY, S3};
use testkit::served::Served;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

#[test]
fn what_one_engine_pushes_another_pulls_also_after_a_crash() {
    let mut registry = Served::start(BERTH, &[]);
    let name = format!("{}/team/box:v1", registry.host());
    let one = Engine::start(BERTH);
    one.ok(&["tag", "busybox", &name]);
    let pushed = one.ok(&["push", &name]);
    assert!(pushed.contains("v1: digest: sha256:"), "{pushed}");
    let again = one.ok(&["push", &name]);
    assert!(again.contains("Layer already exists"), "{again}");
    // Another repository gets the layer without its bytes travelling again.
    let other = format!("{}/team/other:v1", registry.host());
    one.ok(&["tag", "busybox", &other]);
    let mounted = one.ok(&["push", &other]);
    assert!(mounted.contains("Mounted from team/box"), "{mounted}");

    registry.kill();
    registry.launch();
    let two = Engine::start_empty(BERTH, &[]);
    for name in [&name, &other] {
        two.ok(&["pull", name]);
        assert_eq!(
            two.ok(&["run", "--rm", name, "echo", "travelled"]),
            "travelled"
        );
    }
    assert_eq!(registry.terminate(), Some(0));
}

#[test]
fn dockers_client_is_served() {
    let registry = Served::start(BERTH, &[]);
    let name = format!("{}/box:v1", registry.host());
    let engine = Engine::start(BERTH);
    if engine.docker_ok(&["tag", "busybox", &name]).is_none() {
        return;
    }
    engine.docker_ok(&["push", &name]);
    engine.docker_ok(&["rmi", &name]);
    engine.docker_ok(&["pull", &name]);
    engine.docker_ok(&["manifest", "inspect", "--insecure", &name]);
}

#[test]
fn one_process_has_a_root_and_mistakes_are_named() {
    let registry = Served::start(BERTH, &[]);
    let root = registry.dir().join("root");
    let serve = |args: &[&str]| {
        let mut command = Command::new(BERTH);
        command.args(["registry", "serve", "--addr", "127.0.0.1:0"]);
        ran(command.args(args), None)
    };
    let second = serve(&["--root", &root.display().to_string()]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains("another registry uses"), "{second:?}");

    let file = registry.dir().join("config.json");
    std::fs::write(&file, r#"{"read-olny": true}"#).expect("a file");
    let wrong = serve(&["--config", &file.display().to_string()]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains("unknown field `read-olny`"), "{wrong:?}");
    assert_eq!(serve(&["--prot", "1"]).code, 125);
}

#[test]
fn an_engines_own_images_are_served_without_a_copy() {
    let one = Engine::start(BERTH);
    let context = one.dir_with(
        "context",
        &[("Dockerfile", "FROM busybox\nRUN echo built > /made\n")],
    );
    one.ok(&["build", "-t", "team/app:v1", &context.display().to_string()]);
    let share = format!("--share-engine={}", one.path("data").display());
    let registry = Served::start(BERTH, &[&share]);
    let two = Engine::start_empty(BERTH, &[]);
    let name = format!("{}/team/app:v1", registry.host());
    two.ok(&["pull", &name]);
    assert_eq!(two.ok(&["run", "--rm", &name, "cat", "/made"]), "built");
    assert_eq!(
        two.ok(&["images", "-q", "--no-trunc"]),
        one.ok(&["images", "-q", "--no-trunc", "team/app"])
    );
    let kept = registry.dir().join("root/blobs/sha256");
    assert_eq!(std::fs::read_dir(kept).expect("blobs").count(), 0);
    // What is built later is there at once, and gone when it is removed.
    one.ok(&["tag", "busybox", "later"]);
    two.ok(&["pull", &format!("{}/later", registry.host())]);
    one.ok(&["rmi", "later"]);
    two.fails(1, &["pull", &format!("{}/later", registry.host())]);
}

#[test]
fn whoever_logs_in_may_push_and_a_cache_brings_it_elsewhere() {
    // bcrypt of "secret", as `htpasswd -nbB user secret` prints it.
    let users = "user:$2y$05$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66\n";
    let registry = Served::start_with(BERTH, &["--htpasswd", "{dir}/users"], |dir| {
        std::fs::write(dir.join("users"), users).expect("a file");
    });
    let engine = Engine::start(BERTH);
    let name = format!("{}/team/box:v1", registry.host());
    engine.ok(&["tag", "busybox", &name]);
    engine.fails(1, &["push", &name]);
    let login = ["login", "-u", "user", "--password-stdin", registry.host()];
    assert_ne!(engine.run_with_input(&login, b"wrong").code, 0);
    let ran = engine.run_with_input(&login, b"secret");
    assert!(ran.out.contains("Login Succeeded"), "{ran:?}");
    engine.ok(&["push", &name]);
    engine.ok(&["rmi", &name]);
    engine.ok(&["pull", &name]);
    let other = format!("{}/team/other:v1", registry.host());
    engine.ok(&["tag", "busybox", &other]);
    let mounted = engine.ok(&["push", &other]);
    assert!(mounted.contains("Mounted from"), "{mounted}");

    let config = format!(
        r#"{{"caches": [{{"upstream": "{}", "prefix": "up", "username": "user", "password": "secret"}}]}}"#,
        registry.host()
    );
    let cache = Served::start_with(BERTH, &["--config", "{dir}/config.json"], |dir| {
        std::fs::write(dir.join("config.json"), config).expect("a file");
    });
    let two = Engine::start_empty(BERTH, &[]);
    let cached = format!("{}/up/team/box:v1", cache.host());
    two.ok(&["pull", &cached]);
    assert_eq!(two.ok(&["run", "--rm", &cached, "echo", "here"]), "here");
    two.ok(&["rmi", &cached]);
    drop(registry);
    two.ok(&["pull", &cached]);
}

/// One request over a connection of its own: the status, and what came after it.
fn ask(host: &str, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    use std::io::{Error, Read, Write};
    let mut stream = std::net::TcpStream::connect(host)?;
    stream.set_read_timeout(Some(testkit::wait::DEADLINE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default())
        .ok()
        .and_then(|s| s.parse().ok());
    match (status, end) {
        (Some(status), Some(end)) => Ok((status, answer.split_off(end + 4))),
        _ => Err(Error::other("no answer")),
    }
}

/// Pushes one image after the other until `enough`; the digests of what was answered with 201.
fn push_until(
    host: &str,
    pusher: usize,
    enough: &std::sync::atomic::AtomicBool,
    count: &std::sync::atomic::AtomicUsize,
) -> Vec<(String, String)> {
    use berth_store::hash::sha256;
    use std::sync::atomic::Ordering;
    let mut acknowledged = Vec::new();
    let mut number = 0usize;
    while !enough.load(Ordering::SeqCst) {
        number += 1;
        let blob = format!("{pusher}-{number} ").repeat(20_000);
        let digest = sha256(blob.as_bytes()).to_string();
        let path = format!("/v2/p{pusher}/blobs/uploads/?digest={digest}");
        if !matches!(ask(host, "POST", &path, blob.as_bytes()), Ok((201, _))) {
            continue;
        }
        acknowledged.push(("blobs".to_owned(), digest.clone()));
        count.fetch_add(1, Ordering::SeqCst);
        let size = blob.len();
        let entry = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size}}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{entry},"layers":[{entry}]}}"#);
        let path = format!("/v2/p{pusher}/manifests/t{number}");
        if matches!(ask(host, "PUT", &path, manifest.as_bytes()), Ok((201, _))) {
            let digest = sha256(manifest.as_bytes()).to_string();
            acknowledged.push(("manifests".to_owned(), digest));
        }
    }
    acknowledged
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let mut registry = Served::start(BERTH, &["--log-level", "warn"]);
    let host = registry.host().to_owned();
    let (enough, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..3)
            .map(|pusher| {
                let (host, enough, count) = (&host, &enough, &count);
                scope.spawn(move || push_until(host, pusher, enough, count))
            })
            .collect();
        for _ in 0..20 {
            let before = count.load(Ordering::SeqCst);
            testkit::wait::until("pushes go on", || {
                (count.load(Ordering::SeqCst) > before + 3).then_some(())
            });
            registry.kill();
            registry.launch();
        }
        enough.store(true, Ordering::SeqCst);
        for (pusher, pushed) in pushers.into_iter().enumerate() {
            for (kind, digest) in pushed.join().expect("a pusher") {
                let path = format!("/v2/p{pusher}/{kind}/{digest}");
                let (status, body) = ask(&host, "GET", &path, b"").expect("an answer");
                assert_eq!(status, 200, "{path} was acknowledged");
                assert_eq!(berth_store::hash::sha256(&body).to_string(), digest);
            }
        }
    });
}

#[test]
fn what_is_pushed_to_one_replica_is_pulled_from_another() {
    let (Some(postgres), Some(s3)) = (Postgres::start(), S3::start()) else {
        return;
    };
    let config = format!(
        r#"{{"postgres": {{"url": "{}"}},
            "s3": {{"endpoint": "{}", "bucket": "{BUCKET}", "access-key": "{KEY}", "secret-key": "{KEY}"}}}}"#,
        postgres.database("registry"),
        s3.endpoint()
    );
    let replica = || {
        Served::start_with(BERTH, &["--config", "{dir}/config"], |dir| {
            std::fs::write(dir.join("config"), &config).expect("a file");
        })
    };
    let (mut one, two) = (replica(), replica());
    let engine = Engine::start(BERTH);
    let name = |registry: &Served| format!("{}/team/box:v1", registry.host());
    engine.ok(&["tag", "busybox", &name(&one)]);
    engine.ok(&["push", &name(&one)]);
    one.kill();
    // The layer is larger than a MiB: the client is sent to the store for it.
    let other = Engine::start_empty(BERTH, &[]);
    other.ok(&["pull", &name(&two)]);
    assert_eq!(
        other.ok(&["run", "--rm", &name(&two), "echo", "travelled"]),
        "travelled"
    );
    // Docker's client and its digests agree with that.
    if engine.docker_ok(&["tag", "busybox", &name(&two)]).is_some() {
        let pushed = engine.docker_ok(&["push", &name(&two)]);
        assert!(pushed.is_some_and(|said| said.contains("Layer already exists")));
    }
    one.launch();
    other.ok(&["pull", &name(&one)]);
    assert_eq!(one.terminate(), Some(0));
}
