//! A store where overlayfs has no place to write: on an overlay.

mod bench;

use std::fs;

use berth_store::ErrorKind;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// An overlay that goes when this does.
struct Overlay(tempfile::TempDir);

impl Overlay {
    fn new() -> Option<Overlay> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "aside", "at"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let path = |name| dir.path().join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            path("lower"),
            path("upper"),
            path("aside")
        );
        let options = std::ffi::CString::new(options).unwrap();
        let flags = MountFlags::empty();
        mount("overlay", path("at"), "overlay", flags, options.as_c_str()).ok()?;
        Some(Overlay(dir))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = unmount(self.0.path().join("at"), UnmountFlags::DETACH);
    }
}

#[test]
fn a_store_on_an_overlay_says_so() {
    let Some(overlay) = Overlay::new() else {
        return testkit::skipped("no overlay can be mounted here");
    };
    let store = bench::open(&overlay.0.path().join("at"));
    let lease = store.lease().unwrap();
    let tar = testkit::rootfs::busybox_tar();
    let layer = store.layers().import(&lease, &mut &tar[..], None).unwrap();
    store.snapshots().create("c", &[layer.diff_id]).unwrap();
    match store.snapshots().mount("c") {
        // Some kernel may learn it.
        Ok(_) => assert_eq!(store.warnings(), [""; 0]),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(
                error.to_string().starts_with("containers cannot start"),
                "{error}"
            );
            assert_eq!(store.warnings(), [error.to_string()]);
        }
    }
}
