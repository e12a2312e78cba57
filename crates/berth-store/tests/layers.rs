//! Layers imported, mounted by the kernel, and compared with what went in.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use berth_store::{RootMount, Store, StoreOptions};

struct Bench {
    _dir: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreOptions {
        root: dir.path().join("root"),
        run_dir: dir.path().join("run"),
    })
    .unwrap();
    Bench { _dir: dir, store }
}

/// The mount as a path that this process can use.
fn path(mount: &RootMount) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", mount.fd().as_raw_fd()))
}

#[test]
fn a_layer_is_seen_as_it_was_packed() {
    let bench = bench();
    let tar = testkit::rootfs::busybox_tar();
    let lease = bench.store.lease().unwrap();
    let layer = bench
        .store
        .layers()
        .import(&lease, &mut &tar[..], None)
        .unwrap();
    assert_eq!(layer.diff_id, berth_store::hash::sha256(&tar));
    eprintln!("{:?} {:?}", bench.store.layers().mounting(), layer);
    let view = bench
        .store
        .snapshots()
        .view(&[layer.diff_id.clone()])
        .unwrap();
    let at = path(&view);
    assert_eq!(
        fs::read(at.join("bin/busybox")).unwrap(),
        fs::read(testkit::rootfs::busybox()).unwrap()
    );
    assert_eq!(
        fs::read_link(at.join("bin/sh")).unwrap().to_str(),
        Some("busybox")
    );
    let out = std::process::Command::new("ls")
        .arg("-laR")
        .arg(at.join("."))
        .output();
    eprintln!("{}", String::from_utf8_lossy(&out.unwrap().stdout));
    bench
        .store
        .snapshots()
        .create("c1", &[layer.diff_id])
        .unwrap();
    let root = bench.store.snapshots().mount("c1").unwrap();
    let at = path(&root);
    fs::write(at.join("etc/new"), "x").unwrap();
    fs::remove_file(at.join("etc/passwd")).unwrap();
    assert!(!at.join("etc/passwd").exists());
}
