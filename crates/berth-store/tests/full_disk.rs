//! A full disk: said as such, nothing half visible, and room made again.

use std::io::Write;
use std::path::{Path, PathBuf};

use berth_store::archive::import_root;
use berth_store::{ErrorKind, Store, StoreOptions};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A tmpfs of some size, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(dir: &Path, size: &std::ffi::CStr) -> Option<Self> {
        match mount("tmpfs", dir, "tmpfs", MountFlags::empty(), Some(size)) {
            Ok(()) => Some(Self(dir.to_owned())),
            Err(e) => {
                testkit::skipped(&format!("cannot mount a tmpfs: {e}"));
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing is left to say if this fails; the directory's removal will.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_said_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::at(dir.path(), c"size=6m") else {
        return;
    };
    let store = Store::open(StoreOptions {
        root: disk.0.join("root"),
        run_dir: disk.0.join("run"),
        extractor: berth_store::tree::Extractor::on_thread(),
    })
    .unwrap();
    let lease = store.lease().unwrap();
    let kept = store.content().put(&lease, b"kept").unwrap();

    let mut ingest = store.content().ingest(&lease, None).unwrap();
    let error = loop {
        if let Err(e) = ingest.write_all(&[7; 65536]) {
            break berth_store::Error::io("cannot store", e);
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");

    // With not a byte free: reading, removing and collecting go on.
    assert_eq!(store.content().read(&kept, 10).unwrap(), b"kept");
    drop(ingest);
    let filler = disk.0.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    let tar = testkit::rootfs::busybox_tar();
    let error = import_root(&store, &mut &tar[..], Default::default(), "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(store.images().list().unwrap().is_empty());
    drop(lease);
    assert_eq!(store.collect().unwrap().blobs, 1);

    // Full service after space returns, without a restart.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let image = import_root(&store, &mut &tar[..], Default::default(), "").unwrap();
    let name = "box:1".parse().unwrap();
    store.images().tag(&name, &image.id).unwrap();
    assert_eq!(store.images().resolve("box:1").unwrap().id, image.id);
    drop((store, disk));
}
