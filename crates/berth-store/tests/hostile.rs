//! Archives made to do harm, by name. Each is refused with an error that names the entry, or does
//! nothing outside of its own tree. What a layer may not do, `unpack` may not either.

mod bench;

use std::fs;
use std::path::{Path, PathBuf};

use bench::{Bench, Tar, describe, path};
use berth_store::tree::{self, Extractor, UnpackOptions};
use berth_store::{Error, ErrorKind};
use berth_sys::root::RootFd;
use tar::EntryType;

/// A directory with something beside it that must stay as it is.
struct Canary {
    dir: tempfile::TempDir,
    before: String,
}

impl Canary {
    fn new() -> Canary {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("outside/dir")).unwrap();
        fs::write(dir.path().join("outside/secret"), "untouched").unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let before = format!("{:?}", describe(&dir.path().join("outside")));
        Canary { dir, before }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn unpack(&self, tar: &[u8]) -> Result<tree::Placed, Error> {
        let root = RootFd::open(&self.root()).unwrap();
        Extractor::on_thread().unpack(
            &root,
            Path::new(""),
            &mut &tar[..],
            &UnpackOptions::default(),
        )
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(
                format!("{:?}", describe(&self.dir.path().join("outside"))),
                self.before,
                "something outside was touched"
            );
        }
    }
}

/// Neither as a layer nor unpacked; the error names `entry`.
fn refused(tar: &[u8], entry: &str) {
    let bench = Bench::new();
    let canary = Canary::new();
    for (how, error) in [
        ("import", bench.import(tar).unwrap_err()),
        ("unpack", canary.unpack(tar).unwrap_err()),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{how}: {error}");
        assert!(error.to_string().contains(entry), "{how}: {error}");
    }
    let new = bench.dir.path().join("root/layers/new");
    assert_eq!(fs::read_dir(new).unwrap().count(), 0, "staging is gone");
}

/// Both as a layer and unpacked it shows these paths (files with their content), below its own root.
fn harmless(tar: &[u8], expected: &[&str]) {
    let bench = Bench::new();
    let canary = Canary::new();
    canary.unpack(tar).unwrap();
    let view = bench.view(&[bench.layer(tar)]);
    for root in [path(&view), canary.root()] {
        let found: Vec<String> = describe(&root)
            .into_keys()
            .filter(|p| !p.is_empty())
            .collect();
        assert_eq!(found, expected, "{}", root.display());
    }
}

#[test]
fn a_name_that_climbs() {
    for name in [
        "../outside/secret",
        "a/../../outside/x",
        "/../outside/x",
        "..",
        "a/b/../../..",
    ] {
        refused(
            &Tar::new().dir("a").dir("a/b").file(name, "x").finish(),
            name,
        );
        refused(&Tar::new().dir(name).finish(), name);
    }
}

#[test]
fn a_name_that_is_absolute() {
    harmless(
        &Tar::new().file("/outside/secret", "x").finish(),
        &["outside", "outside/secret"],
    );
    harmless(&Tar::new().file("//a//./b", "x").finish(), &["a", "a/b"]);
}

#[test]
fn a_link_out_and_a_file_through_it() {
    let climbing = "../../../../../../../../../../../../tmp";
    let tar = Tar::new()
        .symlink("out", climbing)
        .file("out/x", "x")
        .finish();
    // Inside the root, `..` ends at the root.
    harmless(&tar, &["out", "tmp", "tmp/x"]);
    let canary = Canary::new();
    let outside = canary.dir.path().join("outside");
    let outside = outside.to_str().unwrap();
    let tar = Tar::new()
        .symlink("out", outside)
        .file("out/secret", "stolen")
        .finish();
    canary.unpack(&tar).unwrap();
    // The way was made anew below the root.
    let made = canary
        .root()
        .join(outside.trim_start_matches('/'))
        .join("secret");
    assert_eq!(fs::read_to_string(made).unwrap(), "stolen");
}

#[test]
fn a_file_over_a_link_does_not_go_through_it() {
    let canary = Canary::new();
    let secret = canary.dir.path().join("outside/secret");
    let tar = Tar::new()
        .symlink("x", secret.to_str().unwrap())
        .file("x", "mine")
        .finish();
    canary.unpack(&tar).unwrap();
    assert_eq!(fs::read_to_string(canary.root().join("x")).unwrap(), "mine");
    assert!(!canary.root().join("x").is_symlink());
    let bench = Bench::new();
    let view = bench.view(&[bench.layer(&tar)]);
    assert_eq!(fs::read_to_string(path(&view).join("x")).unwrap(), "mine");
}

#[test]
fn links_that_were_there_before_lead_nowhere_else() {
    let canary = Canary::new();
    let outside = canary.dir.path().join("outside");
    std::os::unix::fs::symlink(&outside, canary.root().join("there")).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), canary.root().join("file")).unwrap();
    let tar = Tar::new()
        .file("there/secret", "x")
        .file("file", "y")
        .dir("there2")
        .finish();
    canary.unpack(&tar).unwrap();
    assert!(!canary.root().join("file").is_symlink());
}

#[test]
fn hard_links_to_the_outside() {
    for target in [
        "../outside/secret",
        "/../outside/secret",
        "a/../../outside/secret",
    ] {
        refused(
            &Tar::new().dir("a").hard_link("mine", target).finish(),
            "mine",
        );
    }
    // An absolute target is one inside.
    refused(
        &Tar::new().hard_link("mine", "/outside/secret").finish(),
        "mine",
    );
    harmless(
        &Tar::new().file("a", "x").hard_link("mine", "/a").finish(),
        &["a", "mine"],
    );
    // Through a symlink of the archive.
    let canary = Canary::new();
    let outside = canary.dir.path().join("outside");
    let tar = Tar::new()
        .symlink("out", outside.to_str().unwrap())
        .hard_link("mine", "out/secret")
        .finish();
    refused(&tar, "mine");
    assert!(canary.unpack(&tar).is_err());
    // To a symlink that points out: the link itself gets a name, not what it points at.
    let tar = Tar::new()
        .symlink("out", outside.join("secret").to_str().unwrap())
        .hard_link("mine", "out")
        .finish();
    canary.unpack(&tar).unwrap_or_default();
}

#[test]
fn hard_links_to_nothing_directories_and_themselves() {
    refused(&Tar::new().hard_link("mine", "missing").finish(), "mine");
    refused(&Tar::new().dir("d").hard_link("mine", "d").finish(), "mine");
    refused(&Tar::new().hard_link("mine", "mine").finish(), "mine");
    refused(&Tar::new().hard_link("mine", "").finish(), "mine");
    harmless(
        &Tar::new().file("a", "x").hard_link("a", "a").finish(),
        &["a"],
    );
    // To something in the directory that the link replaces.
    refused(
        &Tar::new().file("a/b", "x").hard_link("a", "a/b").finish(),
        "a/b",
    );
}

#[test]
fn entries_below_what_is_no_directory() {
    refused_as(
        &Tar::new().file("f", "x").file("f/below", "y").finish(),
        "f/below",
    );
    refused_as(
        &Tar::new()
            .raw(EntryType::Fifo, "p", "", b"")
            .dir("p/below")
            .finish(),
        "p/below",
    );
}

/// As a layer the error is the sender's fault; unpacked, the kernel says it.
fn refused_as(tar: &[u8], entry: &str) {
    let bench = Bench::new();
    let error = bench.import(tar).unwrap_err();
    assert!(error.to_string().contains(entry), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = Canary::new().unpack(tar).unwrap_err();
    assert!(error.to_string().contains(entry), "{error}");
}

#[test]
fn a_way_that_was_a_link_a_moment_ago() {
    let way = Tar::new().dir("d").symlink("way", "d").file("way/x", "");
    refused_as(&way.file("way", "").file("way/y", "").finish(), "way/y");
}

#[test]
fn links_in_a_circle() {
    let tar = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "x")
        .finish();
    refused_as(&tar, "a/x");
    refused_as(
        &Tar::new().symlink("me", "me/me").file("me/x", "x").finish(),
        "me/x",
    );
}

#[test]
fn the_root_as_something_else() {
    for tar in [
        Tar::new().file(".", "x").finish(),
        Tar::new().file("./", "x").finish(),
        Tar::new().symlink("/", "/outside").finish(),
        Tar::new().file("a/..", "x").finish(),
    ] {
        refused(&tar, "root");
    }
}

#[test]
fn whiteouts_of_parents_and_of_nothing() {
    let bench = Bench::new();
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", "a/.wh.."] {
        let error = bench
            .import(&Tar::new().dir("a").file(name, "").finish())
            .unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = bench
        .import(&Tar::new().file("a/.wh.b/c", "").finish())
        .unwrap_err();
    assert!(error.to_string().contains("below a whiteout"), "{error}");
    // AUFS' own names mean nothing.
    let view = bench.view(&[bench.layer(
        &Tar::new()
            .dir(".wh..wh.plnk")
            .file(".wh..wh.plnk/1.2", "x")
            .file(".wh..wh.aufs", "")
            .finish(),
    )]);
    assert_eq!(describe(&path(&view)).len(), 1);
}

#[test]
fn the_last_of_the_same_name_stays() {
    let cases: [(Vec<u8>, &[&str]); 5] = [
        (Tar::new().file("x", "1").file("x", "2").finish(), &["x"]),
        (
            Tar::new().dir("x").file("x/in", "").file("x", "2").finish(),
            &["x"],
        ),
        (
            Tar::new().file("x", "1").dir("x").file("x/in", "").finish(),
            &["x", "x/in"],
        ),
        (
            Tar::new().dir("x").file("x/in", "").dir("x/").finish(),
            &["x", "x/in"],
        ),
        (
            Tar::new()
                .dir("d")
                .symlink("x", "d")
                .dir("x")
                .file("x/in", "")
                .finish(),
            &["d", "x", "x/in"],
        ),
    ];
    for (tar, expected) in cases {
        harmless(&tar, expected);
    }
    let bench = Bench::new();
    let view = bench.view(&[bench.layer(&Tar::new().file("x", "1").file("x", "22").finish())]);
    assert_eq!(fs::read_to_string(path(&view).join("x")).unwrap(), "22");
}

#[test]
fn names_and_links_beyond_what_a_kernel_takes() {
    let long = "n".repeat(256);
    refused(&Tar::new().file(&long, "x").finish(), "nnn");
    let deep = "d/".repeat(2100);
    let bench = Bench::new();
    assert_eq!(
        bench
            .import(&Tar::new().dir(&deep).finish())
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
    // As deep as a path can be is fine.
    let deep = "d/".repeat(2040);
    let view = bench.view(&[bench.layer(&Tar::new().dir(&deep).finish())]);
    let root = RootFd::new(view.into_fd()).unwrap();
    assert!(root.stat(Path::new(&deep)).is_ok());
    let canary = Canary::new();
    canary.unpack(&Tar::new().dir(&deep).finish()).unwrap();
    // Too deep for a path from the host's root: by handles, then.
    std::process::Command::new("rm")
        .arg("-rf")
        .arg(canary.root().join("d"))
        .status()
        .unwrap();
}

#[test]
fn a_nul_byte_in_a_name() {
    let tar = Tar::new()
        .pax(&[("path", b"a\0b")])
        .file("short", "x")
        .finish();
    refused(&tar, "NUL");
    refused(
        &Tar::new()
            .pax(&[("linkpath", b"a\0b")])
            .symlink("short", "x")
            .finish(),
        "short",
    );
}

#[test]
fn headers_beyond_any_bound() {
    let bench = Bench::new();
    let big = vec![b'x'; 3 << 20];
    let tar = Tar::new().pax(&[("comment", &big)]).file("a", "b").finish();
    let error = bench.import(&tar).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(Canary::new().unpack(&tar).is_err());
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.user.x", &big[..70_000])])
        .file("fat", "b")
        .finish();
    refused(&tar, "fat");
    // A map of a sparse file that never ends.
    let sparse = Tar::new().header(b"", |header| {
        header.as_gnu_mut().unwrap().name[..6].copy_from_slice(b"sparse");
        header.set_entry_type(EntryType::GNUSparse);
        header.as_gnu_mut().unwrap().isextended[0] = 1;
    });
    let mut tar = sparse.finish();
    let mut more = [0; 512];
    more[504] = 1;
    tar.truncate(512);
    for _ in 0..20_000 {
        tar.extend(more);
    }
    let error = bench.import(&tar).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[test]
fn owners_beyond_32_bits_and_the_unset_one() {
    for id in ["4294967295", "4294967296", "18446744073709551615"] {
        for key in ["uid", "gid"] {
            let tar = Tar::new()
                .pax(&[(key, id.as_bytes())])
                .file("wrapped", "x")
                .finish();
            refused(&tar, "wrapped");
        }
    }
    refused(
        &Tar::new()
            .pax(&[("uid", b"zero")])
            .file("odd", "x")
            .finish(),
        "odd",
    );
    let tar = Tar::new()
        .pax(&[("uid", b"4294967294")])
        .file("last", "x")
        .finish();
    harmless(&tar, &["last"]);
}

#[test]
fn attributes_of_overlayfs_do_not_come_in() {
    let bench = Bench::new();
    let below = bench.layer(&Tar::new().dir("d").file("d/kept", "x").finish());
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.fine", b"1"),
        ])
        .dir("d")
        .finish();
    let view = bench.view(&[below, bench.layer(&tar)]);
    assert_eq!(fs::read_to_string(path(&view).join("d/kept")).unwrap(), "x");
    let seen = describe(&path(&view));
    assert_eq!(seen["d"].xattrs.keys().collect::<Vec<_>>(), ["user.fine"]);
}

#[test]
fn a_sparse_map_that_lies() {
    let lie = |records: &[(&str, &[u8])]| {
        Tar::new()
            .pax(records)
            .file("sparse", "0123456789")
            .finish()
    };
    let cases: [&[(&str, &[u8])]; 4] = [
        // Regions that overlap, go backwards, lie outside, or hold more than is stored.
        &[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"0,5,3,5")],
        &[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"50,5,0,5")],
        &[("GNU.sparse.size", b"8"), ("GNU.sparse.map", b"0,10")],
        &[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"0,20")],
    ];
    for records in cases {
        refused(&lie(records), "sparse");
    }
    let huge: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"9000000000000000000"),
        ("GNU.sparse.map", b"0,10"),
    ];
    refused(&lie(huge), "sparse");
}

#[test]
fn cut_short_and_damaged() {
    let bench = Bench::new();
    let tar = testkit::rootfs::busybox_tar();
    for len in [100, 700, 5000, tar.len() / 2] {
        let error = bench.import(&tar[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{len}: {error}");
    }
    let mut damaged = tar.clone();
    damaged[0] ^= 1;
    assert_eq!(
        bench.import(&damaged).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(
        bench
            .import(b"no tar at all, but a text")
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
    assert_eq!(
        bench.import(&[7; 5000]).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn content_where_none_belongs() {
    // A size on a directory, as some archivers write it, is no content.
    let tar = Tar::new().header(b"", |header| {
        header.as_gnu_mut().unwrap().name[..3].copy_from_slice(b"dir");
        header.set_entry_type(EntryType::Directory);
        header.set_size(4096);
    });
    harmless(&tar.file("next", "x").finish(), &["dir", "next"]);
}

#[test]
fn unknown_types_are_said() {
    refused(
        &Tar::new()
            .raw(EntryType::new(b'Q'), "odd", "", b"")
            .finish(),
        "odd",
    );
}

#[test]
fn devices_beyond_the_kernels_numbers() {
    let tar = |major: u32| {
        Tar::new()
            .header(b"", |header| {
                header.as_gnu_mut().unwrap().name[..6].copy_from_slice(b"device");
                header.set_entry_type(EntryType::Char);
                header.set_device_major(major).unwrap();
                header.set_device_minor(1).unwrap();
            })
            .finish()
    };
    refused(&tar(4096), "device");
    harmless(&tar(4095), &["device"]);
}
