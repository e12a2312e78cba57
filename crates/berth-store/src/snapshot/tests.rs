//! The same stacks, mounted in every way that there is: what is seen does not depend on it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use berth_sys::fs_user::with_fs_user;

use super::overlay::By;
use super::{MountOptions, Snapshots};
use crate::db::Db;
use crate::layer::{LayerMounting, Layers, Mounts, Owners};
use crate::lease::Leases;

/// Every way; which of them the kernel at hand would choose by itself does not matter.
const WAYS: [(LayerMounting, By); 6] = [
    (LayerMounting::Detached, By::Descriptor),
    (LayerMounting::Attached, By::Name),
    (LayerMounting::Attached, By::Options),
    (LayerMounting::Directory, By::Descriptor),
    (LayerMounting::Directory, By::Name),
    (LayerMounting::Directory, By::Options),
];

fn path(mount: &super::RootMount) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", mount.fd().as_raw_fd()))
}

fn tar(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn put(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, content: &str) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o1755 } else { 0o4711 });
    header.set_uid(12);
    header.set_gid(34);
    header.set_mtime(1_600_000_000);
    let text = content.as_bytes();
    if kind == tar::EntryType::Link {
        header.set_size(0);
        builder.append_link(&mut header, name, content).unwrap();
    } else {
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text).unwrap();
    }
}

/// Two layers: the upper one replaces, hides, and has something in a directory it does not list.
fn layers() -> [Vec<u8>; 2] {
    use tar::EntryType::{Directory, Fifo, Link, Regular};
    let below = tar(|t| {
        put(t, Directory, "etc", "");
        put(t, Regular, "etc/one", "1");
        put(t, Link, "etc/same", "etc/one");
        put(t, Regular, "etc/two", "2");
        put(t, Directory, "hidden", "");
        put(t, Regular, "hidden/x", "x");
        put(t, Directory, "opaque", "");
        put(t, Regular, "opaque/x", "x");
        put(t, Fifo, "pipe", "");
    });
    let above = tar(|t| {
        put(t, Regular, "etc/.wh.two", "");
        put(t, Regular, "etc/three", "3");
        put(t, Regular, ".wh.hidden", "");
        put(t, Directory, "opaque", "");
        put(t, Regular, "opaque/.wh..wh..opq", "");
        put(t, Regular, "opaque/y", "y");
    });
    [below, above]
}

fn listing(root: &Path, below: &str, out: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(root.join(below))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{below}{name}");
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        let content = if meta.is_file() {
            fs::read_to_string(root.join(&path)).unwrap()
        } else {
            String::new()
        };
        out.push(format!(
            "{path} {:o} {}:{} {} {} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            if meta.is_dir() { 0 } else { meta.nlink() },
        ));
        if meta.is_dir() {
            listing(root, &format!("{path}/"), out);
        }
    }
}

/// IDs of the mapped form begin here.
const BASE: u32 = 400_000;

/// What a view of the layers shows, and what one of a commit shows of what was written in between:
/// by the root of a user namespace where there is one.
fn look(
    mounting: LayerMounting,
    by: By,
    namespace: Option<BorrowedFd<'_>>,
) -> (Vec<String>, Vec<String>) {
    let owners = namespace.map(|namespace| Owners {
        namespace,
        uid: BASE,
        gid: BASE,
    });
    let dir = tempfile::tempdir().unwrap();
    let attach = dir.path().join("run/layers");
    fs::create_dir_all(&attach).unwrap();
    fs::create_dir_all(dir.path().join("layers/new")).unwrap();
    let db = Db::open(&dir.path().join("berth.db")).unwrap().db;
    let mounts = Mounts::as_told(mounting, by, attach.clone());
    let layers_ = Layers::with(
        dir.path().join("layers"),
        db.clone(),
        mounts,
        crate::tree::Extractor::on_thread(),
    );
    let snapshots = Snapshots::at(
        dir.path().join("containers"),
        dir.path().join("trash"),
        db,
        layers_.clone(),
    )
    .unwrap();
    let lease = Leases::default().lease();
    let diff_ids: Vec<_> = layers()
        .iter()
        .map(|tar| {
            let layer = layers_.import(&lease, &mut &tar[..], None).unwrap();
            assert_eq!(layer.form, mounting.form());
            layer.diff_id
        })
        .collect();
    for diff_id in &diff_ids {
        assert_eq!(layers_.recheck(diff_id).unwrap(), None, "{mounting:?}");
    }
    let (mut viewed, mut written) = (Vec::new(), Vec::new());
    let view = snapshots.view(&diff_ids).unwrap();
    listing(&path(&view), "", &mut viewed);
    snapshots.create("c", &diff_ids).unwrap();
    let options = MountOptions {
        owners,
        ..MountOptions::default()
    };
    let root = snapshots.mount_as("c", options).unwrap();
    if let Some(owners) = &owners {
        snapshots.try_mapped(owners).unwrap();
        let mapped = snapshots.view_mapped(&diff_ids, owners).unwrap();
        let own = |mount, name: &str| fs::metadata(path(mount).join(name)).unwrap().uid();
        assert_eq!(own(&mapped, "etc/three"), BASE + 12);
        assert_eq!((own(&root, "etc"), own(&root, "")), (BASE + 12, BASE));
        let chown = |uid| chown(path(&root).join("etc"), Some(BASE + uid), None);
        chown(77).unwrap();
        chown(12).unwrap();
    }
    let write = || {
        fs::write(path(&root).join("etc/one"), "changed").unwrap();
        fs::write(path(&root).join("new"), "by root").unwrap();
        fs::remove_dir_all(path(&root).join("opaque")).unwrap();
    };
    let writer = owners.map_or(0, |o| o.uid);
    with_fs_user(writer, writer, write).unwrap();
    let layer = snapshots.commit(&lease, "c").unwrap();
    let view = snapshots
        .view(&[&diff_ids[..], &[layer.diff_id]].concat())
        .unwrap();
    listing(&path(&view), "", &mut written);
    for line in &mut written {
        // The time of writing differs.
        *line = line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    }
    drop((view, root, snapshots, layers_));
    assert_eq!(fs::read_dir(attach).unwrap().count(), 0);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(dir.path().to_str().unwrap()), "{table}");
    (viewed, written)
}

#[test]
fn every_way_of_mounting_shows_the_same() {
    let mut seen = None;
    for (mounting, by) in WAYS {
        if !can(mounting, by) {
            testkit::skipped(&format!("this kernel cannot mount {mounting:?} by {by:?}"));
            continue;
        }
        let now = look(mounting, by, None);
        assert!(now.0.iter().any(|line| line.starts_with("etc 41755 12:34")));
        assert_eq!(now.0.len(), 7, "{:?}", now.0);
        assert_eq!(*seen.get_or_insert(now.clone()), now, "{mounting:?} {by:?}");
    }
}

#[test]
fn mapped_owners_are_not_so_on_disk() {
    let Some(namespace) = testkit::userns::user_namespace(BASE) else {
        return;
    };
    for (mounting, by) in WAYS {
        if !can(mounting, by) {
            continue;
        }
        let plain = look(mounting, by, None);
        assert!(plain.1.contains(&"new 100644 0:0".to_owned()), "{plain:?}");
        let mapped = look(mounting, by, Some(namespace.as_fd()));
        assert_eq!(plain, mapped, "{mounting:?} {by:?}");
    }
}

/// Whether the kernel at hand can do it that way: what it chose, or what an older one would.
fn can(mounting: LayerMounting, by: By) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let chosen = Mounts::probe(dir.path(), &dir.path().join("run")).unwrap();
    let newest = chosen.mounting() == LayerMounting::Detached;
    newest || chosen.by() == by || by != By::Descriptor && mounting != LayerMounting::Detached
}
