//! Layers imported, mounted by the kernel, and compared with what went in.

mod bench;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use bench::{Bench, Tar, assert_no_mounts, assert_same, describe, path};
use berth_store::{ErrorKind, LayerForm};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat};

/// A tree with everything that a file system of Linux has to offer.
fn motley(root: &Path) {
    let dir = |name: &str| fs::create_dir_all(root.join(name)).unwrap();
    let file = |name: &str, size: usize| {
        let bytes: Vec<u8> = (0..size).map(|n| (n / 3) as u8 ^ size as u8).collect();
        fs::write(root.join(name), bytes).unwrap();
    };
    dir("etc/deep/er/and/deeper");
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 70_000, 1 << 20] {
        file(&format!("etc/file-{size}"), size);
    }
    file("etc/deep/er/and/deeper/leaf", 10);
    dir("many");
    for n in 0..1500 {
        file(&format!("many/{}-{n}", "n".repeat(n % 120)), n % 7);
    }
    dir("links");
    for len in [1, 60, 255, 400, 500, 513, 4000] {
        symlink(
            "x/".repeat(len / 2 + 1).get(..len).unwrap(),
            root.join(format!("links/{len}")),
        )
        .unwrap();
    }
    fs::hard_link(root.join("etc/file-513"), root.join("links/hard")).unwrap();
    fs::hard_link(root.join("etc/file-513"), root.join("zz-hard")).unwrap();
    let node = |name: &str, kind, device| {
        mknodat(
            CWD,
            root.join(name),
            kind,
            Mode::from_raw_mode(0o640),
            device,
        )
        .unwrap();
    };
    dir("dev");
    node(
        "dev/null",
        FileType::CharacterDevice,
        rustix::fs::makedev(1, 3),
    );
    node(
        "dev/loop300",
        FileType::BlockDevice,
        rustix::fs::makedev(7, 300),
    );
    node("dev/pipe", FileType::Fifo, 0);
    let mode = |name: &str, mode| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, uid, gid) in [
        ("etc/file-1", 1000, 50),
        ("etc/deep", 70_000, 4_000_000_000),
    ] {
        chown(root.join(name), Some(uid), Some(gid)).unwrap();
    }
    for (name, bits) in [
        ("etc/file-511", 0o4755),
        ("etc/file-512", 0o2711),
        ("many", 0o1777),
        ("etc/file-0", 0),
    ] {
        mode(name, bits);
    }
    let xattr = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::setxattr(root.join(name), key, value, XattrFlags::empty()).unwrap();
    };
    // cap_net_raw=ep, version 2.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    xattr("etc/file-4096", "security.capability", &capability);
    xattr("etc/file-4096", "user.note", b"a\nb=c\0d");
    xattr("many", "user.long", &[7; 900]);
    xattr("etc/file-0", "user.empty", b"");
    times(root);
}

/// Gives everything a time of its own, in whole seconds, from the leaves up.
fn times(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            times(&entry.unwrap().path());
        }
    }
    let seconds = 1_500_000_000 + path.as_os_str().len() as i64;
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn pack(root: &Path) -> Vec<u8> {
    let root = berth_sys::root::RootFd::open(root).unwrap();
    let mut tar = Vec::new();
    let options = berth_store::tree::PackOptions {
        name: Some("."),
        ..Default::default()
    };
    berth_store::tree::pack(&root, Path::new(""), &mut tar, &options).unwrap();
    tar
}

#[test]
fn the_kernel_shows_the_tree_that_was_packed() {
    let bench = Bench::new();
    let source = tempfile::tempdir().unwrap();
    motley(source.path());
    let view = bench.view(&[bench.layer(&pack(source.path()))]);
    assert_same(&describe(source.path()), &describe(&path(&view)));
    assert_no_mounts(bench);
}

#[test]
fn the_format_s_own_tools_find_the_same() {
    let Some(fsck) = testkit::find_command("fsck.erofs") else {
        return testkit::skipped("no fsck.erofs");
    };
    let bench = Bench::new();
    let source = tempfile::tempdir().unwrap();
    motley(source.path());
    let layer = bench.import(&pack(source.path())).unwrap();
    if layer.form != LayerForm::Erofs {
        return testkit::skipped("the kernel cannot mount EROFS from files");
    }
    let files = bench
        .dir
        .path()
        .join("root/layers")
        .join(layer.diff_id.hex());
    let to = bench.dir.path().join("extracted");
    let mut device = std::ffi::OsString::from("--device=");
    device.push(files.join("layer.tar"));
    let mut extract = std::ffi::OsString::from("--extract=");
    extract.push(&to);
    let out = std::process::Command::new(fsck)
        .args([device, extract])
        .arg("--preserve")
        .arg(files.join("layer.erofs"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[out.stderr, out.stdout].concat()).into_owned();
    if said.contains("isn't supported on this platform") {
        return testkit::skipped("this fsck.erofs knows no blocks of 512 bytes");
    }
    assert!(out.status.success(), "{said}");
    let plain = |root: &Path| {
        let mut tree = describe(root);
        for node in tree.values_mut() {
            node.xattrs.clear();
        }
        tree
    };
    assert_same(&plain(source.path()), &plain(&to));
}

#[test]
fn a_tar_of_gnu_tar_shows_the_same() {
    let bench = Bench::new();
    let source = tempfile::tempdir().unwrap();
    motley(source.path());
    for format in ["pax", "gnu"] {
        let mut command = std::process::Command::new("tar");
        command
            .args(["--sort=name", "-c", &format!("--format={format}"), "-C"])
            .arg(source.path());
        if format == "pax" {
            command.args(["--xattrs", "--xattrs-include=*"]);
        }
        let out = command.arg(".").output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let layer = bench.layer(&out.stdout);
        let mut expected = describe(source.path());
        if format == "gnu" {
            expected.values_mut().for_each(|node| node.xattrs.clear());
        }
        assert_same(&expected, &describe(&path(&bench.view(&[layer]))));
    }
}

#[test]
fn what_is_imported_is_kept_to_the_byte() {
    let bench = Bench::new();
    // Something after the end belongs to the diff ID all the same.
    let mut tar = Tar::new().file("a", "b").finish();
    tar.extend([0x5a; 700]);
    let layer = bench.import(&tar).unwrap();
    assert_eq!(layer.diff_id, berth_store::hash::sha256(&tar));
    assert_eq!(layer.size, tar.len() as u64);
    let mut back = Vec::new();
    let mut reader = bench.store.layers().open_tar(&layer.diff_id).unwrap();
    assert_eq!(reader.len(), tar.len() as u64);
    std::io::Read::read_to_end(&mut reader, &mut back).unwrap();
    assert!(back == tar);
    assert_eq!(
        fs::read(path(&bench.view(&[layer.diff_id])).join("a")).unwrap(),
        b"b"
    );
}

#[test]
fn an_archive_may_stop_after_its_last_byte() {
    let bench = Bench::new();
    let whole = Tar::new()
        .file("a", &"x".repeat(700))
        .file("z", &"y".repeat(5000))
        .finish();
    // Header, content of two blocks, header, content: without padding and without an end.
    let cut = &whole[..512 + 1024 + 512 + 5000];
    let view = bench.view(&[bench.layer(cut)]);
    assert_eq!(
        fs::read_to_string(path(&view).join("z")).unwrap(),
        "y".repeat(5000)
    );
    assert_eq!(
        fs::read_to_string(path(&view).join("a")).unwrap(),
        "x".repeat(700)
    );
    assert!(bench.import(&whole[..cut.len() - 1]).is_err());
    // With padding, but without an end; with half of one.
    bench.layer(&whole[..512 + 1024 + 512 + 5120]);
    bench.layer(&whole[..512 + 1024 + 512 + 5120 + 512]);
}

#[test]
fn compressed_or_not_it_is_one_layer() {
    use std::io::Write;
    let bench = Bench::new();
    let tar = testkit::rootfs::busybox_tar();
    let plain = bench.import(&tar).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    for compressed in [
        gzip.finish().unwrap(),
        zstd::encode_all(&tar[..], 1).unwrap(),
    ] {
        assert_eq!(bench.import(&compressed).unwrap(), plain);
    }
    let names: Vec<_> = fs::read_dir(bench.dir.path().join("root/layers"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.len() == 64)
        .collect();
    assert_eq!(names, [plain.diff_id.hex()]);
    assert_eq!(
        fs::read_dir(bench.dir.path().join("root/layers/new"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn an_index_is_a_function_of_the_tar() {
    let read = |bench: &Bench, layer: &berth_store::Layer| {
        fs::read(
            bench
                .dir
                .path()
                .join("root/layers")
                .join(layer.diff_id.hex())
                .join("layer.erofs"),
        )
        .unwrap()
    };
    let tar = testkit::rootfs::busybox_tar();
    let (one, two) = (Bench::new(), Bench::new());
    let (first, second) = (one.import(&tar).unwrap(), two.import(&tar).unwrap());
    if first.form != LayerForm::Erofs {
        return testkit::skipped("the kernel cannot mount EROFS from files");
    }
    assert!(read(&one, &first) == read(&two, &second));
}

#[test]
fn the_empty_layer_and_no_layer() {
    let bench = Bench::new();
    let empty = bench.layer(&[0; 1024]);
    assert_eq!(
        empty.as_str(),
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    );
    for layers in [
        &[][..],
        std::slice::from_ref(&empty),
        &[empty.clone(), empty.clone()],
    ] {
        assert_eq!(describe(&path(&bench.view(layers))).len(), 1);
    }
    let root = bench.snapshot("c", &[]);
    fs::write(path(&root).join("x"), "y").unwrap();
    // No bytes at all are a tar too.
    assert_eq!(bench.import(b"").unwrap().size, 0);
}

#[test]
fn sparse_files_have_their_holes() {
    let bench = Bench::new();
    let source = tempfile::tempdir().unwrap();
    let file = fs::File::create(source.path().join("sparse")).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(&[9; 70_000], 1 << 20).unwrap();
    file.write_all_at(b"end", (64 << 20) + 77).unwrap();
    file.set_len(100 << 20).unwrap();
    fs::write(source.path().join("tail"), "after it").unwrap();
    times(source.path());
    for arguments in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let out = std::process::Command::new("tar")
            .args(["-c", "-S", "-C"])
            .arg(source.path())
            .args(arguments)
            .arg(".")
            .output()
            .unwrap();
        assert!(out.status.success());
        assert!(out.stdout.len() < 2 << 20);
        let layer = bench.import(&out.stdout).unwrap();
        assert!(layer.bytes < 4 << 20, "holes take no room: {}", layer.bytes);
        assert_same(
            &describe(source.path()),
            &describe(&path(&bench.view(&[layer.diff_id]))),
        );
    }
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let bench = Bench::new();
    let tar = Tar::new().file("a", "b").finish();
    let wrong = berth_store::hash::sha256(b"something else");
    let error = bench
        .store
        .layers()
        .import(&bench.lease, &mut &tar[..], Some(&wrong))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(wrong.as_str()), "{error}");
    assert!(bench.store.layers().get(&wrong).unwrap().is_none());
    assert!(
        bench
            .store
            .layers()
            .get(&berth_store::hash::sha256(&tar))
            .unwrap()
            .is_none()
    );
    assert_eq!(
        fs::read_dir(bench.dir.path().join("root/layers/new"))
            .unwrap()
            .count(),
        0
    );
    let right = berth_store::hash::sha256(&tar);
    bench
        .store
        .layers()
        .import(&bench.lease, &mut &tar[..], Some(&right))
        .unwrap();
    let sha512 = berth_store::hash::digest_with(berth_spec::digest::Algorithm::Sha512, &tar);
    let layer = bench
        .store
        .layers()
        .import(&bench.lease, &mut &tar[..], Some(&sha512))
        .unwrap();
    assert_eq!(layer.diff_id, sha512);
}

#[test]
fn imports_of_one_layer_at_once_make_one() {
    let bench = Bench::new();
    let tar = testkit::rootfs::busybox_tar();
    let layers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| bench.import(&tar).unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(layers.iter().all(|layer| *layer == layers[0]));
}

#[test]
fn thirteen_thousand_entries() {
    let bench = Bench::new();
    let mut tar = Tar::new();
    for dir in 0..130 {
        tar = tar.dir(&format!("usr/share/d{dir}/"));
        for file in 0..100 {
            tar = tar.file(
                &format!("usr/share/d{dir}/f{file}"),
                &format!("{dir} {file}"),
            );
        }
    }
    let layer = bench.import(&tar.finish()).unwrap();
    let root = bench.view(&[layer.diff_id]);
    let seen = describe(&path(&root));
    assert_eq!(seen.len(), 130 * 101 + 3);
    assert_eq!(
        fs::read_to_string(path(&root).join("usr/share/d129/f77")).unwrap(),
        "129 77"
    );
}

#[test]
fn layers_survive_and_leftovers_do_not() {
    let bench = Bench::new();
    let layer = bench.layer(&testkit::rootfs::busybox_tar());
    let Bench { dir, store, lease } = bench;
    drop((store, lease));
    fs::create_dir_all(dir.path().join("root/layers/new/half")).unwrap();
    fs::write(dir.path().join("root/layers/new/half/layer.tar"), "half").unwrap();
    let store = bench::open(dir.path());
    assert!(store.layers().get(&layer).unwrap().is_some());
    let new = dir.path().join("root/layers/new");
    assert!(!new.join("half").exists());
    let view = store.snapshots().view(&[layer]).unwrap();
    assert!(path(&view).join("bin/busybox").exists());
    // What the opening itself needed goes behind the scenes, and not after the store.
    drop((view, store));
    assert_eq!(fs::read_dir(new).unwrap().count(), 0);
}
