//! Packing, unpacking, copying and hashing, as `cp`, `export` and `COPY` use them.

mod bench;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use bench::{Tar, assert_same, describe};
use berth_store::ErrorKind;
use berth_store::tree::{
    self, CopyOptions, Extractor, FileType, HashOptions, PackOptions, UnpackOptions, Verdict,
};
use berth_sys::root::RootFd;

struct Dirs {
    dir: tempfile::TempDir,
}

impl Dirs {
    fn new() -> Dirs {
        let dir = tempfile::tempdir().unwrap();
        for name in ["from", "to"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Dirs { dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self, name: &str) -> RootFd {
        RootFd::open(&self.path(name)).unwrap()
    }

    fn pack(&self, path: &str, options: PackOptions<'_>) -> Vec<u8> {
        let mut tar = Vec::new();
        let bytes = tree::pack(&self.root("from"), Path::new(path), &mut tar, &options).unwrap();
        assert_eq!(bytes, tar.len() as u64);
        tar
    }

    fn unpack(
        &self,
        path: &str,
        tar: &[u8],
        options: UnpackOptions,
    ) -> berth_store::Result<tree::Placed> {
        Extractor::on_thread().unpack(&self.root("to"), Path::new(path), &mut &tar[..], &options)
    }
}

fn populate(root: &Path) {
    fs::create_dir_all(root.join("app/src/deep")).unwrap();
    fs::write(root.join("app/main"), "main").unwrap();
    fs::write(root.join("app/src/lib"), vec![3; 5000]).unwrap();
    fs::write(root.join("app/src/deep/x.log"), "log").unwrap();
    fs::hard_link(root.join("app/main"), root.join("app/src/second")).unwrap();
    symlink("main", root.join("app/link")).unwrap();
    symlink("/app", root.join("to-app")).unwrap();
    chown(root.join("app/src/lib"), Some(12), Some(34)).unwrap();
    fs::set_permissions(root.join("app/main"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(
        root.join("app/src/deep"),
        fs::Permissions::from_mode(0o2770),
    )
    .unwrap();
    rustix::fs::setxattr(
        root.join("app/src"),
        "user.k",
        b"v",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}

/// As an archive carries it: without fractions of seconds.
fn carried(root: &Path) -> BTreeMap<String, bench::Node> {
    let mut tree = describe(root);
    tree.values_mut().for_each(|node| node.mtime.1 = 0);
    tree.remove("");
    tree
}

fn names(tar: &[u8]) -> Vec<String> {
    tar::Archive::new(tar)
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn packed_and_unpacked_it_is_the_same() {
    let dirs = Dirs::new();
    populate(&dirs.path("from"));
    let tar = dirs.pack(
        "",
        PackOptions {
            name: Some(""),
            ..Default::default()
        },
    );
    let placed = dirs.unpack("", &tar, UnpackOptions::default()).unwrap();
    assert_eq!((placed.entries, placed.bytes), (9, 4 + 5000 + 3));
    assert_same(&carried(&dirs.path("from")), &carried(&dirs.path("to")));
    // And once more over itself.
    dirs.unpack("", &tar, UnpackOptions::default()).unwrap();
    assert_same(&carried(&dirs.path("from")), &carried(&dirs.path("to")));
}

#[test]
fn another_reader_sees_the_same() {
    let dirs = Dirs::new();
    populate(&dirs.path("from"));
    let tar = dirs.pack(
        "",
        PackOptions {
            name: Some(""),
            ..Default::default()
        },
    );
    let mut archive = tar::Archive::new(&tar[..]);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    archive.unpack(dirs.path("to")).unwrap();
    let (mut one, mut two) = (carried(&dirs.path("from")), carried(&dirs.path("to")));
    for tree in [&mut one, &mut two] {
        for node in tree.values_mut() {
            // That reader knows no attributes, and lets the times of directories and links be.
            node.xattrs.clear();
            if node.mode & 0o170_000 != 0o100_000 {
                node.mtime = (0, 0);
            }
        }
    }
    assert_same(&one, &two);
}

#[test]
fn names_in_the_archive() {
    let dirs = Dirs::new();
    populate(&dirs.path("from"));
    let packed = |path: &str, options: PackOptions<'_>| names(&dirs.pack(path, options));
    assert_eq!(
        packed("app/src", PackOptions::default())[..3],
        ["src/", "src/deep/", "src/deep/x.log"]
    );
    let renamed = PackOptions {
        name: Some("other"),
        ..Default::default()
    };
    assert_eq!(packed("app/src", renamed)[..2], ["other/", "other/deep/"]);
    let inside = PackOptions {
        name: Some(""),
        ..Default::default()
    };
    assert_eq!(
        packed("app/src", inside),
        ["deep/", "deep/x.log", "lib", "second"]
    );
    assert_eq!(packed("app/main", PackOptions::default()), ["main"]);
    assert_eq!(packed("to-app", PackOptions::default()), ["to-app"]);
    let follow = PackOptions {
        follow: true,
        ..Default::default()
    };
    assert_eq!(packed("to-app", follow)[..2], ["to-app/", "to-app/link"]);
    // A path through a link, which ends in the root.
    assert_eq!(
        packed("to-app/../app/main", PackOptions::default()),
        ["main"]
    );
    let missing = tree::pack(
        &dirs.root("from"),
        Path::new("nowhere"),
        &mut Vec::new(),
        &PackOptions::default(),
    );
    assert!(missing.unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn a_filter_takes_skips_and_prunes() {
    let dirs = Dirs::new();
    populate(&dirs.path("from"));
    let filter = |path: &Path, kind: FileType| match path.to_str().unwrap() {
        "src" => {
            assert_eq!(kind, FileType::Directory);
            Verdict::Skip
        }
        "src/deep" => Verdict::Prune,
        // The first name of two: the second one holds the content then.
        "main" => Verdict::Prune,
        _ => Verdict::Take,
    };
    let options = PackOptions {
        filter: Some(&filter),
        ..Default::default()
    };
    let tar = dirs.pack("app", options);
    assert_eq!(
        names(&tar),
        ["app/", "app/link", "app/src/lib", "app/src/second"]
    );
    dirs.unpack("", &tar, UnpackOptions::default()).unwrap();
    assert_eq!(fs::read(dirs.path("to/app/src/second")).unwrap(), b"main");
}

#[test]
fn owners_can_be_given() {
    let dirs = Dirs::new();
    populate(&dirs.path("from"));
    let tar = dirs.pack(
        "app",
        PackOptions {
            owner: Some((5, 6)),
            ..Default::default()
        },
    );
    dirs.unpack("as-packed", &tar, UnpackOptions::default())
        .unwrap();
    let meta = fs::symlink_metadata(dirs.path("to/as-packed/app/src/lib")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (5, 6));
    let options = UnpackOptions {
        owner: Some((7, 8)),
        ..Default::default()
    };
    dirs.unpack("given", &tar, options).unwrap();
    for name in ["app", "app/main", "app/link", "app/src/deep/x.log"] {
        let meta = fs::symlink_metadata(dirs.path("to/given").join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (7, 8), "{name}");
    }
}

#[test]
fn a_directory_and_something_else_under_one_name() {
    let dirs = Dirs::new();
    fs::create_dir(dirs.path("to/d")).unwrap();
    fs::write(dirs.path("to/d/in"), "x").unwrap();
    fs::write(dirs.path("to/f"), "x").unwrap();
    let strict = || UnpackOptions {
        no_overwrite_dir_non_dir: true,
        ..Default::default()
    };
    let over_dir = Tar::new().file("d", "y").finish();
    let error = dirs.unpack("", &over_dir, strict()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "cannot overwrite directory \"d\" with non-directory \"d\""
    );
    let over_file = Tar::new().dir("f").finish();
    let error = dirs.unpack("", &over_file, strict()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot overwrite non-directory \"f\" with directory \"f\""
    );
    assert!(dirs.path("to/d/in").exists());
    // Without the rule the archive wins.
    dirs.unpack("", &over_dir, UnpackOptions::default())
        .unwrap();
    dirs.unpack("", &over_file, UnpackOptions::default())
        .unwrap();
    assert!(dirs.path("to/d").is_file() && dirs.path("to/f").is_dir());
}

#[test]
fn directories_that_are_there_can_stay_as_they_are() {
    let dirs = Dirs::new();
    fs::create_dir(dirs.path("to/d")).unwrap();
    fs::set_permissions(dirs.path("to/d"), fs::Permissions::from_mode(0o700)).unwrap();
    let tar = Tar::new().dir("./").dir("d").file("d/x", "").finish();
    let keep = UnpackOptions {
        keep_directories: true,
        ..Default::default()
    };
    dirs.unpack("", &tar, keep).unwrap();
    assert_eq!(
        fs::metadata(dirs.path("to/d")).unwrap().mode() & 0o777,
        0o700
    );
    dirs.unpack("", &tar, UnpackOptions::default()).unwrap();
    assert_eq!(
        fs::metadata(dirs.path("to/d")).unwrap().mode() & 0o777,
        0o755
    );
    assert_eq!(
        fs::metadata(dirs.path("to/d")).unwrap().mtime(),
        1_700_000_000
    );
    assert_eq!(
        fs::metadata(dirs.path("to")).unwrap().mtime(),
        1_700_000_000
    );
}

#[test]
fn an_archive_has_a_bound_if_one_is_given() {
    let dirs = Dirs::new();
    let tar = Tar::new().file("a", "12345").file("b", "678").finish();
    let bound = |bytes| UnpackOptions {
        bytes_max: Some(bytes),
        ..Default::default()
    };
    dirs.unpack("", &tar, bound(8)).unwrap();
    let error = dirs.unpack("", &tar, bound(7)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "archive entry \"b\": the archive is too large"
    );
}

#[test]
fn the_last_word_about_a_directory_counts() {
    let dirs = Dirs::new();
    let mut tar = Tar::new();
    for time in [1_000, 2_000] {
        tar = tar.header(b"", |header| {
            header.set_path("d").unwrap();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_mtime(time);
        });
        tar = tar.file("d/x", "");
    }
    dirs.unpack(
        "",
        &tar.dir("gone").file("gone", "").finish(),
        UnpackOptions::default(),
    )
    .unwrap();
    assert_eq!(fs::metadata(dirs.path("to/d")).unwrap().mtime(), 2_000);
}

#[test]
fn a_copy_is_the_same() {
    let dirs = Dirs::new();
    populate(&dirs.path("from"));
    let (from, to) = (dirs.root("from"), dirs.root("to"));
    let copy = |path: &str, target: &str, options: CopyOptions| {
        Extractor::on_thread().copy(&from, Path::new(path), &to, Path::new(target), &options)
    };
    copy("", "all", CopyOptions::default()).unwrap();
    assert_same(
        &describe(&dirs.path("from")),
        &describe(&dirs.path("to/all")),
    );
    // A file gets the name that is asked for.
    copy("app/main", "new/dir/name", CopyOptions::default()).unwrap();
    assert_eq!(fs::read(dirs.path("to/new/dir/name")).unwrap(), b"main");
    copy("app/link", "link", CopyOptions::default()).unwrap();
    assert_eq!(
        fs::read_link(dirs.path("to/link")).unwrap().to_str(),
        Some("main")
    );
    copy(
        "app/link",
        "file",
        CopyOptions {
            follow: true,
            ..Default::default()
        },
    )
    .unwrap();
    assert_eq!(fs::read(dirs.path("to/file")).unwrap(), b"main");
    let options = CopyOptions {
        owner: Some((3, 4)),
        ..Default::default()
    };
    copy("app", "given", options).unwrap();
    let meta = fs::symlink_metadata(dirs.path("to/given/link")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (3, 4));
    let meta = fs::metadata(dirs.path("to/given/src")).unwrap();
    assert_eq!(meta.uid(), 3);
    // Onto what is there, through a link inside the root.
    symlink("/given", dirs.path("to/via")).unwrap();
    copy("app/src/lib", "via/lib", CopyOptions::default()).unwrap();
    assert!(dirs.path("to/given/lib").is_file());
    let error = copy("app", "file", CopyOptions::default()).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    assert!(copy("app/main", "", CopyOptions::default()).is_err());
}

#[test]
fn a_hash_knows_what_matters() {
    let dirs = Dirs::new();
    populate(&dirs.path("from"));
    let root = dirs.root("from");
    let hash = |options: HashOptions<'_>| tree::hash(&root, Path::new("app"), &options).unwrap();
    let first = hash(HashOptions::default());
    assert_eq!(hash(HashOptions::default()), first);
    let changes: [&dyn Fn(); 6] = [
        &|| fs::write(dirs.path("from/app/main"), "Main").unwrap(),
        &|| {
            fs::set_permissions(dirs.path("from/app/src"), fs::Permissions::from_mode(0o701))
                .unwrap()
        },
        &|| {
            fs::remove_file(dirs.path("from/app/link")).unwrap();
            symlink("elsewhere", dirs.path("from/app/link")).unwrap();
        },
        &|| {
            fs::rename(
                dirs.path("from/app/src/lib"),
                dirs.path("from/app/src/lib2"),
            )
            .unwrap()
        },
        &|| chown(dirs.path("from/app/src/lib2"), Some(99), None).unwrap(),
        &|| fs::create_dir(dirs.path("from/app/empty")).unwrap(),
    ];
    let mut seen = vec![first];
    for change in changes {
        change();
        let now = hash(HashOptions::default());
        assert!(!seen.contains(&now));
        seen.push(now);
    }
    // Times do not, nor owners if so asked.
    let (now, blind) = (
        hash(HashOptions::default()),
        HashOptions {
            ignore_owner: true,
            ..Default::default()
        },
    );
    let without = hash(blind);
    let file = fs::File::open(dirs.path("from/app/main")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(hash(HashOptions::default()), now);
    chown(dirs.path("from/app/src/lib2"), Some(98), None).unwrap();
    assert_ne!(hash(HashOptions::default()), now);
    assert_eq!(
        hash(HashOptions {
            ignore_owner: true,
            ..Default::default()
        }),
        without
    );
    // Under another name it is the same.
    fs::rename(dirs.path("from/app"), dirs.path("from/renamed")).unwrap();
    let blind = HashOptions {
        ignore_owner: true,
        ..Default::default()
    };
    assert_eq!(
        tree::hash(&root, Path::new("renamed"), &blind).unwrap(),
        without
    );
}

#[test]
fn a_tree_that_changes_while_it_is_packed_gives_a_whole_archive() {
    let dirs = Dirs::new();
    fs::write(dirs.path("from/a"), "").unwrap();
    for n in 0..200 {
        fs::write(dirs.path(&format!("from/f{n}")), vec![1; 3000]).unwrap();
    }
    let from = dirs.path("from");
    std::thread::scope(|scope| {
        let meddler = scope.spawn(|| {
            for n in (0..200).rev() {
                if n % 2 == 0 {
                    fs::remove_file(from.join(format!("f{n}"))).unwrap();
                } else {
                    fs::write(from.join(format!("f{n}")), "short").unwrap();
                }
            }
        });
        let tar = dirs.pack(
            "",
            PackOptions {
                name: Some(""),
                ..Default::default()
            },
        );
        dirs.unpack("", &tar, UnpackOptions::default()).unwrap();
        meddler.join().unwrap();
    });
    assert!(dirs.path("to/a").exists());
}
