//! What else can be done with containers, and what they share.

use std::path::Path;

use berth_engine::container::{self, CommitRequest, CopyInOptions, StatsOptions, StopOptions};
use berth_engine::step::{self, StepRequest};
use berth_engine::{ErrorKind, Filters, image, network, system};
use berth_spec::docker::config::HealthConfig;
use berth_spec::docker::network::{NetworkConnectBody, NetworkDisconnectBody};
use berth_spec::docker::{NetworkCreateBody, PortBinding, Resources, StreamKind};
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use crate::world::{Forked, World, soon, words};

pub async fn pause_update_stats_top(world: &World) {
    let engine = &world.engine;
    let id = world
        .start("", |b| b.config.cmd = words(&["sleep", "1000"]))
        .await;
    container::pause(engine, &id).await.unwrap();
    let found = container::inspect(engine, &id, false).await.unwrap();
    assert_eq!(
        (&*found.state.status, found.state.running),
        ("paused", true)
    );
    assert_eq!(
        container::pause(engine, &id).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    container::unpause(engine, &id).await.unwrap();
    let changes = Resources {
        memory: 64 << 20,
        pids_limit: Some(50),
        ..Resources::default()
    };
    container::update(engine, &id, changes).await.unwrap();
    let options = StatsOptions {
        one_shot: true,
        stream: false,
    };
    let mut stats = container::stats(engine, &id, options).await.unwrap();
    let sample = soon("a sample", stats.next()).await.unwrap();
    assert!(sample.cpu_stats.system_cpu_usage > 0);
    assert_eq!(sample.memory_stats.limit, 64 << 20);
    assert!(sample.networks.unwrap().contains_key("eth0"));
    if Path::new("/usr/bin/ps").exists() {
        let top = container::top(engine, &id, "").await.unwrap();
        assert!(
            top.processes
                .iter()
                .any(|p| p.last().is_some_and(|c| c == "sleep 1000")),
            "{top:?}"
        );
    }
    // Paused, it is removed all the same by force.
    container::pause(engine, &id).await.unwrap();
}

fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

async fn collect(mut stream: berth_engine::ByteStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

fn names_in(bytes: &[u8]) -> Vec<String> {
    let mut tar = tar::Archive::new(bytes);
    tar.entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect()
}

pub async fn copy_changes_commit_export(world: &World) {
    let engine = &world.engine;
    for running in [false, true] {
        let id = world
            .create("", |b| b.config.cmd = words(&["sleep", "1000"]))
            .await;
        if running {
            container::start(engine, &id).await.unwrap();
        }
        let tar = std::io::Cursor::new(tar_of("new", b"copied"));
        container::copy_in(engine, &id, "/tmp", CopyInOptions::default(), tar)
            .await
            .unwrap();
        let (stat, stream) = container::copy_out(engine, &id, "/tmp/new").await.unwrap();
        assert_eq!((&*stat.name, stat.size, stat.mode), ("new", 6, 0o640));
        assert_eq!(names_in(&collect(stream).await), ["new"]);
        let error = container::stat_path(engine, &id, "/absent")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let changes = container::changes(engine, &id).await.unwrap();
        assert!(
            changes.iter().any(|c| c.path == "/tmp/new" && c.kind == 1),
            "{changes:?}"
        );
        assert!(
            !changes
                .iter()
                .any(|c| c.path.contains("dockerenv") || c.path.contains("mtab")),
            "{changes:?}"
        );
        let names = names_in(&collect(container::export(engine, &id).await.unwrap()).await);
        assert!(
            !running
                || [".dockerenv", "etc/mtab"]
                    .iter()
                    .all(|m| names.iter().any(|n| n == m)),
            "{names:?}"
        );
        assert!(
            names.iter().any(|n| n == "tmp/new") && names.iter().any(|n| n == "etc/passwd"),
            "{names:?}"
        );
        let request = CommitRequest {
            container: id.clone(),
            repo: "made".to_owned(),
            comment: "by a test".to_owned(),
            pause: true,
            edit: Some(Box::new(|config| {
                config.cmd = Some(vec!["cat".to_owned(), "/tmp/new".to_owned()]);
                Ok(())
            })),
            ..CommitRequest::default()
        };
        container::commit(engine, request).await.unwrap();
        let ran = world.run(|b| b.config.image = "made".to_owned()).await;
        assert_eq!((&*ran.out, ran.code), ("copied", 0), "{}", ran.err);
        world.remove_all().await;
        image::remove(engine, "made", false, true).await.unwrap();
    }
}

pub async fn networks_and_ports(world: &World) {
    let engine = &world.engine;
    let body = NetworkCreateBody {
        name: "inner".to_owned(),
        ..NetworkCreateBody::default()
    };
    network::create(engine, body).await.unwrap();
    let serve = "while :; do echo hello | nc -l -p 80; done";
    let id = world
        .start("server", |b| {
            b.config.cmd = words(&["sh", "-c", serve]);
            b.config.exposed_ports = [("81/udp".to_owned(), Default::default())].into();
            b.host_config.port_bindings = Some(
                [(
                    "80/tcp".to_owned(),
                    Some(vec![PortBinding {
                        host_ip: "127.0.0.1".to_owned(),
                        host_port: String::new(),
                    }]),
                )]
                .into(),
            );
        })
        .await;
    let found = container::inspect(engine, &id, false).await.unwrap();
    let settings = &found.network_settings;
    assert!(settings.ip_address.starts_with("10.213.") && !settings.mac_address.is_empty());
    assert_eq!(settings.ports["81/udp"], None);
    let port: u16 = settings.ports["80/tcp"].as_ref().unwrap()[0]
        .host_port
        .parse()
        .unwrap();
    let answered = async {
        loop {
            let mut text = String::new();
            if let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await
                && stream.read_to_string(&mut text).await.is_ok()
                && text == "hello\n"
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon("an answer at the published port", answered).await;
    let second = world
        .create("", |b| {
            b.config.cmd = words(&["true"]);
            b.host_config.port_bindings = Some(
                [(
                    "80/tcp".to_owned(),
                    Some(vec![PortBinding {
                        host_ip: "127.0.0.1".to_owned(),
                        host_port: port.to_string(),
                    }]),
                )]
                .into(),
            );
        })
        .await;
    let error = container::start(engine, &second)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("failed to set up container networking: driver failed programming external connectivity on endpoint ")
            && error.ends_with(&format!("Bind for 127.0.0.1:{port} failed: port is already allocated")),
        "{error}"
    );

    let connect = NetworkConnectBody {
        container: id.clone(),
        endpoint_config: None,
    };
    network::connect(engine, "inner", connect).await.unwrap();
    let ran = world
        .run(|b| {
            b.config.cmd = words(&["sh", "-c", "nc server 80 </dev/null; cat /etc/resolv.conf"]);
            b.host_config.network_mode = "inner".to_owned();
        })
        .await;
    assert!(
        ran.out.starts_with("hello\n") && ran.out.contains("127.0.0.11"),
        "{ran:?}"
    );
    assert_eq!(
        network::inspect(engine, "inner")
            .await
            .unwrap()
            .containers
            .len(),
        1
    );
    assert_eq!(
        network::remove(engine, "inner").await.unwrap_err().kind(),
        ErrorKind::Forbidden
    );
    let disconnect = NetworkDisconnectBody {
        container: id.clone(),
        force: false,
    };
    network::disconnect(engine, "inner", disconnect)
        .await
        .unwrap();
    let ran = world
        .run(|b| {
            b.config.cmd = words(&["ls", "/sys/class/net"]);
            b.host_config.network_mode = "none".to_owned();
        })
        .await;
    assert_eq!(ran.out.trim(), "lo");
    world.remove_all().await;
    network::remove(engine, "inner").await.unwrap();
}

pub async fn health(world: &World) {
    let id = world
        .start("", |b| {
            b.config.cmd = words(&["sleep", "1000"]);
            b.config.healthcheck = Some(HealthConfig {
                test: ["CMD-SHELL", "test -e /tmp/well && echo fine"]
                    .map(str::to_owned)
                    .to_vec(),
                interval: 50_000_000,
                retries: 2,
                ..HealthConfig::default()
            });
        })
        .await;
    world
        .until(&id, "illness", |c| {
            c.state
                .health
                .as_ref()
                .is_some_and(|h| h.status == "unhealthy")
        })
        .await;
    world.exec(&id, &["touch", "/tmp/well"]).await;
    let found = world
        .until(&id, "health", |c| {
            c.state
                .health
                .as_ref()
                .is_some_and(|h| h.status == "healthy")
        })
        .await;
    let log = found.state.health.unwrap().log.unwrap();
    assert!(
        log.last()
            .is_some_and(|r| r.output == "fine\n" && r.exit_code == 0),
        "{log:?}"
    );
}

pub async fn steps(world: &World) {
    let store = world.engine.store();
    let image = store.images().resolve("busybox").unwrap();
    store.snapshots().create("a-step", image.layers()).unwrap();
    let request = StepRequest {
        id: "ab".repeat(32),
        snapshot: "a-step".to_owned(),
        args: [
            "sh",
            "-c",
            "echo out; echo err >&2; echo kept > /made; exit 6",
        ]
        .map(str::to_owned)
        .to_vec(),
        env: vec!["PATH=/bin:/usr/bin".to_owned()],
        cwd: "/work/dir".to_owned(),
        ..StepRequest::default()
    };
    let (sender, mut output) = tokio::sync::mpsc::channel(100);
    let cancel = CancellationToken::new();
    let code = step::run(&world.engine, request.clone(), sender, cancel.clone())
        .await
        .unwrap();
    assert_eq!(code, 6);
    let mut said = Vec::new();
    while let Some(piece) = output.recv().await {
        said.push(piece);
    }
    said.sort_by_key(|(kind, _)| *kind as u8);
    let text = |kind| {
        said.iter()
            .filter(|(k, _)| *k == kind)
            .map(|(_, b)| String::from_utf8_lossy(b))
            .collect::<String>()
    };
    assert_eq!(
        (&*text(StreamKind::Stdout), &*text(StreamKind::Stderr)),
        ("out\n", "err\n")
    );
    let changes = store.snapshots().diff("a-step").unwrap();
    assert!(changes.iter().any(|c| c.path == "/made"));
    // Cancelled, it ends.
    let (sender, mut output) = tokio::sync::mpsc::channel(100);
    let endless = StepRequest {
        args: ["sh", "-c", "echo ready; sleep 1000"]
            .map(str::to_owned)
            .to_vec(),
        ..request
    };
    let engine = world.engine.clone();
    let stop = cancel.clone();
    let running = tokio::spawn(async move { step::run(&engine, endless, sender, stop).await });
    soon("its first word", output.recv()).await.unwrap();
    cancel.cancel();
    let code = soon("its end", running).await.unwrap().unwrap();
    assert_eq!(code, 137);
    store.snapshots().remove("a-step").unwrap();
}

pub async fn images(world: &World) {
    let engine = &world.engine;
    image::tag(engine, "busybox", "other", "v1").await.unwrap();
    let list = image::list(engine, image::ListOptions::default())
        .await
        .unwrap();
    assert_eq!(list[0].repo_tags, ["busybox:latest", "other:v1"]);
    let tar = collect(
        image::save(engine, vec!["other:v1".to_owned()])
            .await
            .unwrap(),
    )
    .await;
    let deleted = image::remove(engine, "other:v1", false, true)
        .await
        .unwrap();
    assert_eq!(deleted.len(), 1);
    let (sender, mut lines) = tokio::sync::mpsc::channel(1000);
    image::load(engine, std::io::Cursor::new(tar), false, sender)
        .await
        .unwrap();
    let mut last = None;
    while let Some(line) = lines.recv().await {
        last = Some(line);
    }
    assert_eq!(last.unwrap().stream, "Loaded image: other:v1\n");
    let found = image::inspect(engine, "other:v1").await.unwrap();
    assert_eq!(found.root_fs.layers.len(), 1);
    assert_eq!(image::history(engine, "other:v1").await.unwrap().len(), 1);
    image::remove(engine, "other:v1", false, true)
        .await
        .unwrap();
    let id = world.create("", |b| b.config.cmd = words(&["true"])).await;
    let error = image::remove(engine, "busybox", false, true)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&id[..12]), "{error}");
    let df = system::df(engine).await.unwrap();
    assert_eq!((df.images.len(), df.containers.len()), (1, 1));
    let info = system::info(engine).await.unwrap();
    assert_eq!((info.containers, info.images), (1, 1));
}

pub async fn events_are_told(world: &World) {
    let since = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
    let id = world
        .create("told", |b| b.config.cmd = words(&["true"]))
        .await;
    world.run_created(&id).await;
    container::remove(&world.engine, &id, container::RemoveOptions::default())
        .await
        .unwrap();
    let until = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
    let options = system::EventsOptions {
        since: Some(since),
        until: Some(until),
        filters: Filters::default().with("container", "told"),
    };
    let events = system::events(&world.engine, options).await.unwrap();
    let actions: Vec<String> = soon("events", events.map(|e| e.action).collect()).await;
    assert_eq!(actions, ["create", "attach", "start", "die", "destroy"]);
}

pub async fn shared_namespaces(world: &World) {
    let id = world
        .start("owner", |b| b.config.cmd = words(&["sleep", "1000"]))
        .await;
    world
        .exec(&id, &["sh", "-c", "echo seen > /dev/shm/note"])
        .await;
    let ran = world
        .run(|b| {
            b.config.cmd = words(&[
                "sh",
                "-c",
                "hostname; cat /dev/shm/note; ps | grep -c 'sleep 1000'",
            ]);
            b.host_config.network_mode = "container:owner".to_owned();
            b.host_config.pid_mode = "container:owner".to_owned();
            b.host_config.ipc_mode = "container:owner".to_owned();
        })
        .await;
    assert!(
        ran.out.starts_with(&format!("{}\nseen\n", &id[..12])),
        "{ran:?}"
    );
    let ran = world
        .run(|b| {
            b.config.cmd = words(&["sh", "-c", "test -e /proc/1/status && hostname"]);
            b.host_config.network_mode = "host".to_owned();
            b.host_config.pid_mode = "host".to_owned();
            b.host_config.uts_mode = "host".to_owned();
            b.host_config.privileged = true;
        })
        .await;
    let host = rustix::system::uname();
    assert_eq!(ran.out.trim(), host.nodename().to_string_lossy(), "{ran:?}");
}

pub async fn containers_survive_the_engine(world: World, forked: Forked) -> World {
    let script = "echo before; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
    let id = world
        .start("lasting", |b| {
            b.config.cmd = words(&["sh", "-c", script]);
            b.host_config.port_bindings = Some([("80/tcp".to_owned(), None)].into());
        })
        .await;
    let ended = world
        .start("ending", |b| {
            b.config.cmd = words(&["sh", "-c", "read x; exit 5"]);
            b.config.open_stdin = true;
        })
        .await;
    let pid = container::inspect(&world.engine, &id, false)
        .await
        .unwrap()
        .state
        .pid;
    let ending = container::inspect(&world.engine, &ended, false)
        .await
        .unwrap()
        .state
        .pid;
    let world = {
        let World { engine, dir } = world;
        engine.shutdown().await;
        // It ends while nobody looks.
        let target = rustix::process::Pid::from_raw(i32::try_from(ending).unwrap()).unwrap();
        rustix::process::kill_process(target, rustix::process::Signal::KILL).unwrap();
        World { engine, dir }.reopen(forked).await
    };
    let found = container::inspect(&world.engine, "lasting", false)
        .await
        .unwrap();
    assert_eq!((found.state.pid, &*found.state.status), (pid, "running"));
    assert!(!found.network_settings.ip_address.is_empty());
    let found = container::inspect(&world.engine, "ending", false)
        .await
        .unwrap();
    assert_eq!(
        (found.state.exit_code, &*found.state.status),
        (137, "exited")
    );
    assert_eq!(world.exec(&id, &["echo", "still"]).await.out, "still\n");
    container::stop(&world.engine, &id, StopOptions::default())
        .await
        .unwrap();
    let options = container::LogOptions {
        stdout: true,
        ..container::LogOptions::default()
    };
    assert_eq!(world.logs(&id, options).await.0, "before\nbye\n");
    let found = container::inspect(&world.engine, &id, false).await.unwrap();
    assert_eq!(found.state.exit_code, 3);
    world
}
