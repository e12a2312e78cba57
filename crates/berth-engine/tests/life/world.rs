//! A throw-away engine with a busybox image, and short ways to use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use berth_distribution::{Client, ClientOptions};
use berth_engine::container::{self, AttachOptions, CreateRequest, RemoveOptions, WaitCondition};
use berth_engine::{Engine, EngineOptions, image};
use berth_network::{Existing, NetworkOptions, Networks};
use berth_runtime::launcher::Launcher;
use berth_spec::docker::{ContainerCreateBody, Frame, StreamKind, Words};
use berth_store::tree::Extractor;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

pub struct World {
    pub engine: Engine,
    pub dir: tempfile::TempDir,
}

/// What a container wrote, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: i64,
}

pub fn words(list: &[&str]) -> Option<Words> {
    Some(Words(list.iter().map(|w| (*w).to_owned()).collect()))
}

/// Takes the frames apart.
pub fn unframe(mut bytes: &[u8]) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while bytes.len() >= 8 {
        let header: [u8; 8] = bytes[..8].try_into().expect("eight bytes");
        let frame = Frame::decode(header).expect("a frame");
        let end = 8 + frame.length as usize;
        let to = match frame.kind {
            StreamKind::Stderr => &mut err,
            _ => &mut out,
        };
        to.extend_from_slice(&bytes[8..end]);
        bytes = &bytes[end..];
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(out), text(err))
}

/// Fails when it takes too long.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(testkit::wait::DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: took too long"))
}

fn network_options(dir: &Path) -> NetworkOptions {
    let number = std::process::id() % 250;
    let mut network = NetworkOptions::new(format!("life{number}"), dir.join("run"));
    network.bip = Some(format!("10.213.{number}.1/24").parse().expect("an address"));
    network
}

/// What an engine is given that must be forked before there are threads.
pub struct Forked {
    launcher: Launcher,
    extractor: Extractor,
}

impl Forked {
    pub fn new() -> Self {
        Self {
            launcher: Launcher::fork().expect("a launcher"),
            extractor: Extractor::fork().expect("an extractor"),
        }
    }
}

async fn open(dir: &Path, forked: Forked) -> Engine {
    let options = EngineOptions {
        root: dir.join("data"),
        run_dir: dir.join("run"),
        network: network_options(dir),
        client: Client::new(ClientOptions::default()).expect("a client"),
        launcher: forked.launcher,
        extractor: forked.extractor,
        blobs: berth_store::Budget::UNLIMITED,
        images: berth_engine::image::UnusedImages::UNLIMITED,
        cgroup_parent: format!("/berth-life-{}", std::process::id()),
        log_opts: BTreeMap::new(),
        log_driver: String::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        labels: Vec::new(),
        remap: None,
        auto_ids: Default::default(),
        ulimits: Vec::new(),
        pids_limit: 0,
        shm_size: 0,
        init: false,
        init_path: None,
        runtimes: BTreeMap::new(),
        default_runtime: String::new(),
        cdi_dirs: Vec::new(),
        proxies: BTreeMap::new(),
        version: "0".to_owned(),
        commit: String::new(),
    };
    Engine::open(options).await.expect("an engine")
}

impl World {
    pub async fn open(forked: Forked) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = open(dir.path(), forked).await;
        let request = image::ImportRequest {
            repo: "busybox".to_owned(),
            ..image::ImportRequest::default()
        };
        let tar = std::io::Cursor::new(testkit::rootfs::busybox_tar());
        image::import(&engine, request, tar).await.expect("busybox");
        Self { engine, dir }
    }

    /// Ends the engine without its containers, and opens another in its place.
    pub async fn reopen(self, forked: Forked) -> Self {
        let Self { engine, dir } = self;
        engine.shutdown().await;
        drop(engine);
        let path = dir.path().to_owned();
        // The store's lock goes with the last background task that holds the old engine.
        let engine = tokio::task::spawn_blocking(move || {
            testkit::wait::until("the store to be free", || {
                let lock = std::fs::File::open(path.join("data/lock")).expect("a lock");
                lock.try_lock().ok()
            });
        });
        engine.await.expect("the old engine's end");
        let engine = open(dir.path(), forked).await;
        Self { engine, dir }
    }

    /// Removes everything, the network's kernel objects too.
    pub async fn close(self) {
        self.remove_all().await;
        self.engine.shutdown().await;
        let networks = Networks::open(network_options(self.dir.path()), Existing::default());
        networks
            .and_then(Networks::destroy)
            .expect("the networks' end");
    }

    pub async fn remove_all(&self) {
        let options = container::ListOptions {
            all: true,
            ..container::ListOptions::default()
        };
        for c in container::list(&self.engine, options)
            .await
            .expect("a list")
        {
            let force = RemoveOptions {
                force: true,
                volumes: true,
                link: false,
            };
            container::remove(&self.engine, &c.id, force)
                .await
                .expect("a removal");
        }
    }

    /// Creates a container of busybox.
    pub async fn create(
        &self,
        name: &str,
        change: impl FnOnce(&mut ContainerCreateBody),
    ) -> String {
        let mut body = ContainerCreateBody::default();
        body.config.image = "busybox".to_owned();
        change(&mut body);
        let request = CreateRequest {
            name: (!name.is_empty()).then(|| name.to_owned()),
            platform: None,
            body,
        };
        container::create(&self.engine, request)
            .await
            .expect("a container")
            .id
    }

    /// Creates and starts one.
    pub async fn start(&self, name: &str, change: impl FnOnce(&mut ContainerCreateBody)) -> String {
        let id = self.create(name, change).await;
        container::start(&self.engine, &id).await.expect("a start");
        id
    }

    /// Runs one to its end, attached from before its start.
    pub async fn run(&self, change: impl FnOnce(&mut ContainerCreateBody)) -> Ran {
        let id = self.create("", change).await;
        self.run_created(&id).await
    }

    pub async fn run_created(&self, id: &str) -> Ran {
        let options = AttachOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachOptions::default()
        };
        let session = container::attach(&self.engine, id, options)
            .await
            .expect("a session");
        let (near, far) = tokio::io::duplex(1 << 16);
        let moving = tokio::spawn(session.run(far));
        let waiting = container::wait(&self.engine, id, WaitCondition::NextExit)
            .await
            .expect("a wait");
        container::start(&self.engine, id).await.expect("a start");
        let (mut reading, _writing) = tokio::io::split(near);
        let mut bytes = Vec::new();
        soon("output", reading.read_to_end(&mut bytes))
            .await
            .expect("output");
        let ended = soon("an end", waiting.outcome()).await;
        moving.await.expect("a session").expect("an end of it");
        let (out, err) = unframe(&bytes);
        Ran {
            out,
            err,
            code: ended.unwrap().status_code,
        }
    }

    /// `sh -c` to its end.
    pub async fn sh(&self, script: &str) -> Ran {
        self.run(|b| b.config.cmd = words(&["sh", "-c", script]))
            .await
    }

    /// The log of a container.
    pub async fn logs(&self, id: &str, options: container::LogOptions) -> (String, String) {
        let mut logs = container::logs(&self.engine, id, options)
            .await
            .expect("logs");
        let mut bytes = Vec::new();
        let reading = async {
            while let Some(piece) = logs.stream.next().await {
                bytes.extend_from_slice(&piece.expect("a piece"));
            }
        };
        soon("logs", reading).await;
        unframe(&bytes)
    }

    /// Runs a command in a running container.
    pub async fn exec(&self, id: &str, command: &[&str]) -> Ran {
        use berth_engine::exec;
        use berth_spec::docker::{ExecCreateBody, ExecStartBody};
        let body = ExecCreateBody {
            cmd: words(command),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecCreateBody::default()
        };
        let exec_id = exec::create(&self.engine, id, body)
            .await
            .expect("an exec")
            .id;
        let session = exec::start(&self.engine, &exec_id, ExecStartBody::default())
            .await
            .expect("a start")
            .expect("a session");
        let (near, far) = tokio::io::duplex(1 << 16);
        let moving = tokio::spawn(session.run(far));
        let (mut reading, _writing) = tokio::io::split(near);
        let mut bytes = Vec::new();
        soon("output", reading.read_to_end(&mut bytes))
            .await
            .expect("output");
        moving.await.expect("a session").expect("an end of it");
        let (out, err) = unframe(&bytes);
        let code = exec::inspect(&self.engine, &exec_id)
            .await
            .expect("an exec")
            .exit_code;
        Ran {
            out,
            err,
            code: code.expect("an exit code: its stream has ended"),
        }
    }

    /// Waits until a command succeeds in a running container.
    pub async fn until_running(&self, id: &str, command: &[&str]) {
        let trying = async {
            while self.exec(id, command).await.code != 0 {
                tokio::task::yield_now().await;
            }
        };
        soon("a command to succeed", trying).await;
    }

    /// Waits until a container's description is as wanted.
    pub async fn until(
        &self,
        id: &str,
        what: &str,
        wanted: impl Fn(&berth_spec::docker::ContainerInspect) -> bool,
    ) -> berth_spec::docker::ContainerInspect {
        let options = berth_engine::system::EventsOptions::default();
        let mut events = berth_engine::system::events(&self.engine, options)
            .await
            .expect("events");
        let looking = async {
            loop {
                let found = container::inspect(&self.engine, id, false)
                    .await
                    .expect("a container");
                if wanted(&found) {
                    return found;
                }
                // Whatever happens next, or nothing for a while: look again.
                let _ = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
            }
        };
        soon(what, looking).await
    }
}
