//! What the tests of this crate stand on: a store with a busybox image in it.

use std::path::Path;
use std::sync::Once;

use berth_distribution::{Client, ClientOptions, Progress, ProgressSender};
use berth_spec::oci::image::{ImageConfig, RootFs};
use berth_spec::{Digest, Reference};
use berth_store::{Image, NewImage, Store, StoreOptions};
use tokio::sync::mpsc;

/// A client with default options.
pub fn client() -> Client {
    client_with(ClientOptions::default())
}

/// A client with these options.
pub fn client_with(options: ClientOptions) -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
    Client::new(options).unwrap()
}

/// A store of its own in a directory of its own.
pub struct TestStore {
    pub store: Store,
    dir: tempfile::TempDir,
}

impl TestStore {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        Self { store, dir }
    }

    /// Opens the store again, as another process would.
    pub fn reopen(&mut self) {
        let elsewhere = tempfile::tempdir().unwrap();
        self.store = open(elsewhere.path());
        self.store = open(self.dir.path());
    }

    fn ingests(&self) -> std::fs::ReadDir {
        std::fs::read_dir(self.dir.path().join("root/content/ingest")).unwrap()
    }

    /// Files of blobs that are on their way in.
    pub fn unfinished(&self) -> usize {
        self.ingests().count()
    }

    /// Changes the first byte of every blob that is on its way in.
    pub fn spoil_unfinished(&self) {
        for entry in self.ingests() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[0] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

fn open(dir: &Path) -> Store {
    Store::open(StoreOptions {
        root: dir.join("root"),
        run_dir: dir.join("run"),
        extractor: berth_store::tree::Extractor::on_thread(),
    })
    .unwrap()
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// An image of busybox and of a second small layer, named `name`.
pub fn busybox(store: &Store, name: &str) -> Image {
    let lease = store.lease().unwrap();
    let mut diff_ids = Vec::new();
    for tar in [testkit::rootfs::busybox_tar(), small_tar(name)] {
        let layer = store.layers().import(&lease, &mut &tar[..], None).unwrap();
        diff_ids.push(layer.diff_id);
    }
    let image = store
        .images()
        .add(
            &lease,
            NewImage {
                config: config(&diff_ids),
                manifest: None,
                parent: None,
            },
        )
        .unwrap();
    store.images().tag(&reference(name), &image.id).unwrap();
    image
}

/// A config over these layers for this machine.
pub fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    serde_json::to_vec(&ImageConfig {
        architecture: arch.into(),
        os: "linux".into(),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: diff_ids.to_vec(),
        },
        ..ImageConfig::default()
    })
    .unwrap()
}

/// A tar with one file in it.
pub fn small_tar(text: &str) -> Vec<u8> {
    let mut header = tar_core::HeaderBuilder::new_ustar();
    header.path("motd").unwrap();
    header.mode(0o644).unwrap();
    header.size(text.len() as u64).unwrap();
    header.mtime(1_700_000_000).unwrap();
    header.uid(0).unwrap();
    header.gid(0).unwrap();
    let mut tar = header.finish().as_bytes().to_vec();
    tar.extend_from_slice(text.as_bytes());
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

/// A progress sender and what collects its lines.
pub fn progress() -> (ProgressSender, tokio::task::JoinHandle<Vec<Progress>>) {
    let (sender, mut receiver) = mpsc::channel(64);
    let lines = tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        lines
    });
    (ProgressSender::new(sender), lines)
}

/// The lines about the whole.
pub fn status_lines(lines: &[Progress]) -> Vec<String> {
    lines
        .iter()
        .filter_map(|line| match line {
            Progress::Status { id: Some(id), text } => Some(format!("{id}: {text}")),
            Progress::Status { id: None, text } => Some(text.clone()),
            Progress::Layer { .. } => None,
        })
        .collect()
}
