//! A builder of the test's own.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use berth_build::{
    BuildEvent, BuildRequest, Builder, BuilderOptions, Built, Context, Error, ErrorKind, Executor,
    HostAccess, Result, RunStep, StdStream, StepOutput,
};
use berth_distribution::{Client, ClientOptions};
use berth_spec::Digest;
use berth_spec::oci::image::{ExecConfig, ImageConfig};
use berth_store::archive::import_root;
use berth_store::{RootMount, Store, StoreOptions};
use berth_sys::root::RootFd;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The image that `FROM busybox` means.
pub const BASE: &str = "busybox";

/// A store and a builder that go with the value.
pub struct Bench {
    pub store: Store,
    pub builder: Builder,
    pub executor: Arc<Chroot>,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

/// How a build ended and what it said.
pub struct Ended {
    pub result: Result<Built>,
    pub events: Vec<BuildEvent>,
}

/// One file of a context.
pub enum File<'a> {
    Text(&'a str, &'a str),
    Mode(&'a str, &'a str, u32),
    Dir(&'a str),
    Link(&'a str, &'a str),
    HardLink(&'a str, &'a str),
}

impl Bench {
    /// `None`, said aloud, where builds cannot be made.
    pub fn new() -> Option<Self> {
        Self::with_host(HostAccess::default())
    }

    pub fn with_host(host: HostAccess) -> Option<Self> {
        if !rustix_is_root() {
            testkit::skipped("builds need root: layers are mounted");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let store = Store::open(StoreOptions {
            root: root.clone(),
            run_dir: dir.path().join("run"),
            extractor: berth_store::tree::Extractor::on_thread(),
        })
        .unwrap();
        let image = import_root(
            &store,
            &mut &testkit::rootfs::busybox_tar()[..],
            ImageConfig {
                os: "linux".into(),
                architecture: goarch().into(),
                config: ExecConfig {
                    env: vec!["PATH=/bin".into()],
                    cmd: Some(vec!["sh".into()]),
                    ..Default::default()
                },
                ..Default::default()
            },
            "the base of tests",
        )
        .unwrap();
        store
            .images()
            .tag(&format!("{BASE}:latest").parse().unwrap(), &image.id)
            .unwrap();
        let executor = Arc::new(Chroot {
            store: store.clone(),
            steps: Mutex::default(),
        });
        // Only plain HTTP is spoken here, but a client is not made without a provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = Builder::new(BuilderOptions {
            cache: berth_store::Budget::UNLIMITED,
            policy: Vec::new(),
            store: store.clone(),
            root,
            client: Client::new(ClientOptions::default()).unwrap(),
            executor: executor.clone(),
            host,
            git: Default::default(),
        })
        .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Some(Bench {
            store,
            builder,
            executor,
            runtime,
            dir,
        })
    }

    /// Builds with the defaults of `docker build`.
    pub fn build(&self, dockerfile: &str, files: &[File<'_>]) -> Ended {
        self.build_with(dockerfile, files, request())
    }

    pub fn build_with(&self, dockerfile: &str, files: &[File<'_>], request: BuildRequest) -> Ended {
        let mut all = vec![File::Text("Dockerfile", dockerfile)];
        all.extend(files.iter().map(File::again));
        self.build_tar(context(&all), request)
    }

    pub fn build_tar(&self, tar: Vec<u8>, request: BuildRequest) -> Ended {
        self.build_context(Context::Tar(Box::new(std::io::Cursor::new(tar))), request)
    }

    pub fn build_context(&self, context: Context, request: BuildRequest) -> Ended {
        let (sender, mut receiver) = mpsc::channel(16);
        self.runtime.block_on(async {
            let reading = async {
                let mut events = Vec::new();
                while let Some(event) = receiver.recv().await {
                    events.push(event);
                }
                events
            };
            let (result, events) =
                tokio::join!(self.builder.build(request, context, sender), reading);
            Ended { result, events }
        })
    }

    /// The ID of a build that has to go well.
    pub fn ok(&self, dockerfile: &str, files: &[File<'_>]) -> Digest {
        self.build(dockerfile, files).id()
    }

    /// The error of a build that has to fail.
    pub fn fails(&self, dockerfile: &str, files: &[File<'_>]) -> String {
        let ended = self.build(dockerfile, files);
        ended.result.expect_err("the build went well").to_string()
    }

    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    pub fn config(&self, id: &Digest) -> ImageConfig {
        (*self.store.images().get(id).unwrap().config).clone()
    }

    /// The root file system of an image.
    pub fn root(&self, id: &Digest) -> RootFd {
        let layers = self.config(id).rootfs.diff_ids;
        let mount: RootMount = self.store.snapshots().view(&layers).unwrap();
        RootFd::new(mount.into_fd()).unwrap()
    }

    /// A file's content; panics where it is not there.
    pub fn read(&self, id: &Digest, path: &str) -> String {
        let mut text = String::new();
        self.root(id)
            .open_file(Path::new(path))
            .unwrap_or_else(|e| panic!("{path}: {e}"))
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    pub fn has(&self, id: &Digest, path: &str) -> bool {
        self.root(id).stat_nofollow(Path::new(path)).is_ok()
    }

    /// Mode, uid and gid.
    pub fn owner(&self, id: &Digest, path: &str) -> (u32, u32, u32) {
        let stat = self.root(id).stat_nofollow(Path::new(path)).unwrap();
        (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
    }

    /// The names in the image's last layer, sorted.
    pub fn last_layer(&self, id: &Digest) -> Vec<String> {
        let layer = self.config(id).rootfs.diff_ids.pop().unwrap();
        let mut tar = tar::Archive::new(self.store.layers().open_tar(&layer).unwrap());
        let mut names: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }

    /// Nothing of a build is left but what the store shows.
    pub fn assert_clean(&self) {
        assert_eq!(self.store.snapshots().list().unwrap(), Vec::<String>::new());
        let left = std::fs::read_dir(self.dir.path().join("root/tmp")).unwrap();
        assert_eq!(left.count(), 0, "files are left in tmp");
    }
}

impl Ended {
    pub fn id(&self) -> Digest {
        match &self.result {
            Ok(built) => built.image_id.clone(),
            Err(error) => panic!("the build failed: {error}\n{}", self.text()),
        }
    }

    /// What a user reads.
    pub fn text(&self) -> String {
        self.events
            .iter()
            .map(|event| match event {
                BuildEvent::Text(text) => text.clone(),
                BuildEvent::Output { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
                BuildEvent::Warning(text) => format!("{text}\n"),
                _ => String::new(),
            })
            .collect()
    }

    pub fn hits(&self) -> usize {
        self.text().matches(" ---> Using cache\n").count()
    }
}

impl File<'_> {
    fn again(&self) -> File<'_> {
        match self {
            File::Text(a, b) => File::Text(a, b),
            File::Mode(a, b, c) => File::Mode(a, b, *c),
            File::Dir(a) => File::Dir(a),
            File::Link(a, b) => File::Link(a, b),
            File::HardLink(a, b) => File::HardLink(a, b),
        }
    }
}

/// The options of `docker build` without options.
pub fn request() -> BuildRequest {
    BuildRequest {
        remove: true,
        ..Default::default()
    }
}

/// A context as a client sends it.
pub fn context(files: &[File<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_600_000_000);
        header.set_uid(1234);
        header.set_gid(1234);
        let (path, content) = match file {
            File::Text(path, content) => {
                header.set_mode(0o644);
                (*path, *content)
            }
            File::Mode(path, content, mode) => {
                header.set_mode(*mode);
                (*path, *content)
            }
            File::Dir(path) => {
                header.set_mode(0o750);
                header.set_entry_type(tar::EntryType::Directory);
                (*path, "")
            }
            File::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
                continue;
            }
            File::HardLink(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
                continue;
            }
        };
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// Runs steps by `chroot`, and remembers them.
pub struct Chroot {
    store: Store,
    pub steps: Mutex<Vec<RunStep>>,
}

impl Chroot {
    pub fn count(&self) -> usize {
        self.steps.lock().unwrap().len()
    }

    pub fn last(&self) -> RunStep {
        self.steps.lock().unwrap().last().unwrap().clone()
    }
}

impl Executor for Chroot {
    fn run(
        &self,
        step: RunStep,
        output: StepOutput,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<i32>> {
        self.steps.lock().unwrap().push(step.clone());
        let store = self.store.clone();
        Box::pin(async move {
            let failed = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Internal, e.to_string());
            let mount = store.snapshots().mount_volatile(&step.snapshot)?;
            let fd = mount.into_fd();
            let root = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
            let mut child = tokio::process::Command::new("chroot")
                .arg(root)
                .args(["/bin/env", "-i"])
                .args(&step.env)
                .args(["/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", &step.cwd])
                .args(&step.args)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .map_err(|e| failed(&e))?;
            let mut stdout = child.stdout.take().unwrap();
            let mut buffer = vec![0; 4096];
            loop {
                tokio::select! {
                    read = stdout.read(&mut buffer) => match read.map_err(|e| failed(&e))? {
                        0 => break,
                        n => {
                            let bytes = Bytes::copy_from_slice(&buffer[..n]);
                            output.write(StdStream::Stdout, bytes).await;
                        }
                    },
                    () = cancel.cancelled() => {
                        let _ = child.kill().await;
                        return Err(Error::cancelled());
                    }
                }
            }
            let status = child.wait().await.map_err(|e| failed(&e))?;
            Ok(status.code().unwrap_or(137))
        })
    }
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
