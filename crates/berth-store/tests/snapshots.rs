//! Writable overlays: what shows through, what differs, and what a commit makes of it.

mod bench;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use bench::{Bench, Tar, assert_no_mounts, assert_same, describe, path};
use berth_spec::Digest;
use berth_store::tree::Extractor;
use berth_store::{ChangeKind, ErrorKind, tree};

/// Paths below a root, without the root itself.
fn names(root: &Path) -> Vec<String> {
    describe(root)
        .into_keys()
        .filter(|p| !p.is_empty())
        .collect()
}

fn base(bench: &Bench) -> Digest {
    bench.layer(
        &Tar::new()
            .dir("etc")
            .file("etc/keep", "keep")
            .file("etc/change", "old")
            .file("etc/remove", "gone soon")
            .dir("etc/dir")
            .file("etc/dir/a", "a")
            .file("etc/dir/b", "b")
            .dir("opt")
            .dir("opt/tree")
            .file("opt/tree/leaf", "leaf")
            .symlink("link", "etc/keep")
            .file("was-file", "x")
            .dir("was-dir")
            .file("was-dir/x", "x")
            .finish(),
    )
}

/// Does a bit of everything to a root.
fn meddle(root: &Path) {
    fs::write(root.join("etc/change"), "new").unwrap();
    fs::remove_file(root.join("etc/remove")).unwrap();
    fs::remove_dir_all(root.join("opt/tree")).unwrap();
    // Removed and made again: opaque.
    fs::remove_dir_all(root.join("etc/dir")).unwrap();
    fs::create_dir(root.join("etc/dir")).unwrap();
    fs::write(root.join("etc/dir/b"), "other").unwrap();
    fs::write(root.join("etc/dir/c"), "c").unwrap();
    fs::create_dir_all(root.join("new/sub")).unwrap();
    fs::write(root.join("new/sub/file"), vec![1; 100_000]).unwrap();
    fs::hard_link(root.join("new/sub/file"), root.join("new/second")).unwrap();
    symlink("/etc/keep", root.join("new/link")).unwrap();
    fs::remove_file(root.join("was-file")).unwrap();
    fs::create_dir(root.join("was-file")).unwrap();
    fs::remove_dir_all(root.join("was-dir")).unwrap();
    fs::write(root.join("was-dir"), "file now").unwrap();
    chown(root.join("new/sub"), Some(1234), Some(99)).unwrap();
    fs::set_permissions(root.join("new/second"), fs::Permissions::from_mode(0o4711)).unwrap();
    rustix::fs::setxattr(
        root.join("new/second"),
        "user.k",
        b"v",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let name = "long-".repeat(40);
    fs::write(root.join("new").join(&name), "long").unwrap();
    symlink("t".repeat(300), root.join("new/long-link")).unwrap();
}

/// A commit has whole seconds, as Docker's; the rest has to be the same.
fn without_fractions(mut tree: BTreeMap<String, bench::Node>) -> BTreeMap<String, bench::Node> {
    for node in tree.values_mut() {
        node.mtime.1 = 0;
    }
    // The root's own time is not part of a layer.
    tree.get_mut("").unwrap().mtime = (0, 0);
    tree
}

#[test]
fn a_commit_shows_what_the_snapshot_showed() {
    let bench = Bench::new();
    let below = base(&bench);
    let root = bench.snapshot("c", std::slice::from_ref(&below));
    meddle(&path(&root));
    let seen = without_fractions(describe(&path(&root)));
    let layer = bench.store.snapshots().commit(&bench.lease, "c").unwrap();
    let view = bench.view(&[below.clone(), layer.diff_id.clone()]);
    assert_same(&seen, &without_fractions(describe(&path(&view))));
    // Once more gives the same bytes; so does the tar that is kept, taken in elsewhere.
    let again = bench.store.snapshots().commit(&bench.lease, "c").unwrap();
    assert_eq!(again, layer);
    let mut tar = Vec::new();
    let mut kept = bench.store.layers().open_tar(&layer.diff_id).unwrap();
    std::io::Read::read_to_end(&mut kept, &mut tar).unwrap();
    assert_eq!(Bench::new().layer(&tar), layer.diff_id);
    // And another snapshot over it does, too.
    let root = bench.snapshot("d", &[below, layer.diff_id]);
    assert_same(&seen, &without_fractions(describe(&path(&root))));
    assert_no_mounts(bench);
}

#[test]
fn a_snapshot_is_looked_at_while_it_is_written_to() {
    let bench = Bench::new();
    let below = base(&bench);
    let root = bench.snapshot("c", std::slice::from_ref(&below));
    meddle(&path(&root));
    let seen = describe(&path(&root));
    let view = bench.store.snapshots().view_of("c").unwrap();
    assert_same(&seen, &describe(&path(&view)));
    fs::write(path(&root).join("later"), "later").unwrap();
    let refused = fs::write(path(&view).join("no"), "no").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let view = bench.store.snapshots().view_of("c").unwrap();
    assert_eq!(fs::read(path(&view).join("later")).unwrap(), b"later");
    drop((root, view));
    assert_no_mounts(bench);
}

#[test]
fn a_commit_of_nothing_is_the_empty_layer() {
    let bench = Bench::new();
    let below = base(&bench);
    drop(bench.snapshot("c", &[below]));
    let layer = bench.store.snapshots().commit(&bench.lease, "c").unwrap();
    assert_eq!(
        layer.diff_id.as_str(),
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    );
}

#[test]
fn a_diff_is_in_dockers_terms() {
    let bench = Bench::new();
    let below = base(&bench);
    let root = bench.snapshot("c", &[below]);
    assert_eq!(bench.store.snapshots().diff("c").unwrap(), []);
    meddle(&path(&root));
    let long = format!("A /new/{}", "long-".repeat(40));
    let shown: Vec<String> = bench
        .store
        .snapshots()
        .diff("c")
        .unwrap()
        .into_iter()
        .map(|change| {
            let letter = match change.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Modified => 'C',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", change.path)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "C /etc",
            "C /etc/change",
            "C /etc/dir",
            "D /etc/dir/a",
            "C /etc/dir/b",
            "A /etc/dir/c",
            "D /etc/remove",
            "A /new",
            "A /new/link",
            "A /new/long-link",
            &long,
            "A /new/second",
            "A /new/sub",
            "A /new/sub/file",
            "C /opt",
            "D /opt/tree",
            "C /was-dir",
            "C /was-file",
        ]
    );
}

#[test]
fn what_was_only_read_or_only_touched_by_a_copy_is_no_change() {
    let bench = Bench::new();
    let root = bench.snapshot("c", &[base(&bench)]);
    let file = path(&root).join("etc/keep");
    // Opened for writing: copied up, but the same.
    drop(fs::OpenOptions::new().write(true).open(&file).unwrap());
    assert_eq!(bench.store.snapshots().diff("c").unwrap(), []);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bench.store.snapshots().diff("c").unwrap().len(), 2);
}

#[test]
fn mount_points_made_for_a_container_are_no_change() {
    let bench = Bench::new();
    let below = base(&bench);
    let stubs = |root: &Path| {
        for dir in ["proc", "sys", "dev/pts", "dev/shm", "run/secrets"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for file in [
            "etc/hosts",
            "etc/resolv.conf",
            "etc/hostname",
            "dev/console",
            ".dockerenv",
        ] {
            fs::write(root.join(file), "").unwrap();
        }
    };
    let snapshots = bench.store.snapshots();
    let shown = |key: &str| -> Vec<String> {
        snapshots
            .diff(key)
            .unwrap()
            .into_iter()
            .map(|change| change.path)
            .collect()
    };
    let root = bench.snapshot("c", std::slice::from_ref(&below));
    stubs(&path(&root));
    assert_eq!(shown("c"), [""; 0]);
    let layer = snapshots.commit(&bench.lease, "c").unwrap();
    assert_eq!(layer.size, 1024, "the empty layer");
    // Written to, they are changes as any other; so is what stands beside them.
    fs::write(path(&root).join("etc/hosts"), "127.0.0.1 me").unwrap();
    fs::create_dir(path(&root).join("run/mine")).unwrap();
    assert_eq!(shown("c"), ["/etc", "/etc/hosts", "/run", "/run/mine"]);
    // What the image has is not taken for one.
    let layer = snapshots.commit(&bench.lease, "c").unwrap();
    let root = bench.snapshot("d", &[below, layer.diff_id]);
    fs::write(path(&root).join("etc/hosts"), "").unwrap();
    assert_eq!(shown("d"), ["/etc", "/etc/hosts"]);
    // An image of nothing at all.
    let root = bench.snapshot("e", &[]);
    fs::create_dir(path(&root).join("etc")).unwrap();
    stubs(&path(&root));
    assert_eq!(shown("e"), [""; 0]);
}

#[test]
fn trees_go_into_a_snapshot_and_from_one_image_to_another() {
    let bench = Bench::new();
    let below = base(&bench);
    let root = bench.snapshot("c", std::slice::from_ref(&below));
    let into = root.root().unwrap();
    let tar = Tar::new()
        .file("etc/change", "unpacked")
        .dir("etc/keep")
        .file("link/x", "through a link, which leads to a directory now")
        .hard_link("second", "opt/tree/leaf")
        .finish();
    let options = tree::UnpackOptions::default();
    Extractor::on_thread()
        .unpack(&into, Path::new("/"), &mut &tar[..], &options)
        .unwrap();
    let at = path(&root);
    assert_eq!(
        fs::read_to_string(at.join("etc/change")).unwrap(),
        "unpacked"
    );
    assert!(at.join("etc/keep/x").is_file());
    assert_eq!(fs::read_to_string(at.join("second")).unwrap(), "leaf");
    let image = bench.view(&[below]).root().unwrap();
    let options = tree::CopyOptions::default();
    Extractor::on_thread()
        .copy(
            &image,
            Path::new("opt"),
            &into,
            Path::new("copied/here"),
            &options,
        )
        .unwrap();
    assert_eq!(
        fs::read_to_string(at.join("copied/here/tree/leaf")).unwrap(),
        "leaf"
    );
    Extractor::on_thread()
        .copy(
            &image,
            Path::new("was-dir"),
            &into,
            Path::new("opt/tree"),
            &options,
        )
        .unwrap();
    let mut out = Vec::new();
    tree::pack(
        &into,
        Path::new("opt/tree"),
        &mut out,
        &tree::PackOptions::default(),
    )
    .unwrap();
    let packed: Vec<_> = tar::Archive::new(&out[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(packed, ["tree/", "tree/leaf", "tree/x"].map(PathBuf::from));
}

#[test]
fn whiteouts_hide_what_lies_below() {
    let bench = Bench::new();
    let below = base(&bench);
    let above = bench.layer(
        &Tar::new()
            .dir("etc")
            .file("etc/.wh.remove", "")
            .dir("etc/dir")
            .file("etc/dir/.wh..wh..opq", "")
            .file("etc/dir/.wh.b", "")
            .file("etc/dir/new", "n")
            .file(".wh.opt", "")
            .file(".wh.was-file", "")
            .dir("was-file")
            .file(".wh.not-there", "")
            .finish(),
    );
    let view = bench.view(&[below.clone(), above.clone()]);
    let expected = [
        "etc",
        "etc/change",
        "etc/dir",
        "etc/dir/new",
        "etc/keep",
        "link",
        "was-dir",
        "was-dir/x",
        "was-file",
    ];
    assert_eq!(names(&path(&view)), expected);
    let root = bench.snapshot("c", &[below, above]);
    assert_eq!(names(&path(&root)), expected);
    fs::create_dir_all(path(&root).join("opt/tree")).unwrap();
    assert_eq!(
        fs::read_dir(path(&root).join("opt/tree")).unwrap().count(),
        0
    );
}

#[test]
fn a_layer_whose_root_is_opaque_hides_all() {
    let bench = Bench::new();
    let below = base(&bench);
    let above = bench.layer(
        &Tar::new()
            .file(".wh..wh..opq", "")
            .file("only", "x")
            .finish(),
    );
    let top = bench.layer(&Tar::new().file("top", "x").finish());
    let view = bench.view(&[below.clone(), above.clone(), top.clone()]);
    assert_eq!(names(&path(&view)), ["only", "top"]);
    let root = bench.snapshot("c", &[below, above, top]);
    assert_eq!(names(&path(&root)), ["only", "top"]);
}

#[test]
fn directories_that_a_layer_does_not_list_keep_their_attributes() {
    let bench = Bench::new();
    let with = |name: &'static str, mode, uid| {
        move |header: &mut tar::Header| {
            header.set_path(name).unwrap();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(mode);
            header.set_uid(uid);
            header.set_mtime(1_600_000_000);
        }
    };
    let below = bench.layer(
        &Tar::new()
            .header(b"", with("tmp", 0o1777, 0))
            .header(b"", with("home", 0o755, 0))
            .header(b"", with("home/alice", 0o700, 1000))
            .finish(),
    );
    let above = bench.layer(
        &Tar::new()
            .file("tmp/x", "")
            .file("home/alice/deep/x", "")
            .finish(),
    );
    let top = bench.layer(&Tar::new().file("tmp/y", "").finish());
    let check = |root: &Path| {
        let seen = describe(root);
        assert_eq!(seen["tmp"].mode & 0o7777, 0o1777);
        assert_eq!(seen["tmp"].mtime, (1_600_000_000, 0));
        assert_eq!(seen["home/alice"].mode & 0o7777, 0o700);
        assert_eq!(seen["home/alice"].owner, (1000, 0));
        assert_eq!(seen["home/alice/deep"].mode & 0o7777, 0o755);
        assert!(seen.contains_key("tmp/x") && seen.contains_key("tmp/y"));
    };
    let layers = [below, above, top];
    check(&path(&bench.view(&layers)));
    let root = bench.snapshot("c", &layers);
    check(&path(&root));
    assert_eq!(bench.store.snapshots().diff("c").unwrap(), []);
    // What a later layer says of the directory holds.
    let says = bench.layer(&Tar::new().header(b"", with("tmp", 0o711, 5)).finish());
    let seen = describe(&path(&bench.view(&[layers.as_slice(), &[says]].concat())));
    assert_eq!((seen["tmp"].mode & 0o7777, seen["tmp"].owner.0), (0o711, 5));
}

#[test]
fn the_root_directory_is_the_layers_one() {
    let bench = Bench::new();
    let below = bench.layer(
        &Tar::new()
            .header(b"", |header| {
                header.set_path("./").unwrap();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o750);
                header.set_uid(7);
            })
            .file("x", "")
            .finish(),
    );
    let above = bench.layer(&Tar::new().file("y", "").finish());
    let root = bench.snapshot("c", &[below, above]);
    let meta = fs::metadata(path(&root)).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o750, 7));
}

#[test]
fn more_than_a_hundred_layers() {
    let bench = Bench::new();
    let layers: Vec<Digest> = (0..130)
        .map(|n| {
            let previous = format!(".wh.layer-{}", n - 3);
            bench.layer(
                &Tar::new()
                    .file("same", &n.to_string())
                    .file(&format!("layer-{n}"), "")
                    .file(&previous, "")
                    .finish(),
            )
        })
        .collect();
    let root = bench.snapshot("c", &layers);
    assert_eq!(
        names(&path(&root)),
        ["layer-127", "layer-128", "layer-129", "same"]
    );
    assert_eq!(fs::read_to_string(path(&root).join("same")).unwrap(), "129");
    // The same layer at two places counts where it is highest.
    let view = bench.view(&[&layers[..5], &layers[2..3]].concat());
    assert_eq!(fs::read_to_string(path(&view).join("same")).unwrap(), "2");
}

#[test]
fn a_snapshot_has_one_life() {
    let bench = Bench::new();
    let below = base(&bench);
    let snapshots = bench.store.snapshots();
    let missing = berth_store::hash::sha256(b"missing");
    assert_eq!(
        snapshots.create("c", &[missing]).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    for key in ["", "..", "a/b", ".hidden", "a\0b"] {
        assert_eq!(
            snapshots.create(key, &[]).unwrap_err().kind(),
            ErrorKind::Invalid,
            "{key:?}"
        );
    }
    assert_eq!(
        snapshots.mount("c").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let root = bench.snapshot("c", std::slice::from_ref(&below));
    assert_eq!(
        snapshots.create("c", &[]).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(snapshots.layers("c").unwrap(), std::slice::from_ref(&below));
    assert_eq!(snapshots.list().unwrap(), ["c"]);
    fs::write(path(&root).join("big"), vec![1; 1 << 20]).unwrap();
    assert!(snapshots.usage("c").unwrap() >= 1 << 20);
    drop(root);
    // What was written is there at the next mount, whichever way it is mounted.
    let root = snapshots.mount_volatile("c").unwrap();
    assert_eq!(
        fs::metadata(path(&root).join("big")).unwrap().len(),
        1 << 20
    );
    drop(root);
    assert!(path(&snapshots.mount("c").unwrap()).join("big").exists());
    snapshots.remove("c").unwrap();
    snapshots.remove("c").unwrap();
    assert!(!snapshots.exists("c").unwrap());
    assert!(!bench.dir.path().join("root/containers/c").exists());
    assert_eq!(
        snapshots.mount("c").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn containers_of_one_image_do_not_see_each_other() {
    let bench = Bench::new();
    let below = base(&bench);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (bench, below) = (&bench, below.clone());
            scope.spawn(move || {
                let key = format!("c{n}");
                let root = bench.snapshot(&key, &[below]);
                fs::write(path(&root).join("etc/change"), &key).unwrap();
                fs::write(path(&root).join(&key), "").unwrap();
                assert_eq!(
                    fs::read_to_string(path(&root).join("etc/change")).unwrap(),
                    key
                );
                assert_eq!(bench.store.snapshots().diff(&key).unwrap().len(), 3);
            });
        }
    });
}

#[test]
fn a_layer_in_use_outlives_its_deletion() {
    let bench = Bench::new();
    let layer = base(&bench);
    let view = bench.view(std::slice::from_ref(&layer));
    let Bench { dir, store, lease } = bench;
    drop(lease);
    assert_eq!(store.collect().unwrap().layers, 1);
    assert_eq!(
        fs::read_to_string(path(&view).join("etc/keep")).unwrap(),
        "keep"
    );
    assert_eq!(
        store.snapshots().view(&[layer]).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    drop((view, store, dir));
}
