//! Archives by chance, against a slow model and against each other's reading.

mod bench;

use std::collections::BTreeMap;
use std::path::Path;

use bench::{Bench, Tar, describe, path};
use berth_store::tree::{Extractor, UnpackOptions};
use berth_sys::root::RootFd;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// One entry, over so few names that they meet.
#[derive(Clone, Debug)]
enum Op {
    File(String, u8),
    Dir(String),
    Symlink(String, String),
    HardLink(String, String),
    Fifo(String),
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        name(),
        name().prop_map(|name| format!("/{name}")),
        name().prop_map(|name| format!("../{name}")),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("/".to_owned()),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (name(), any::<u8>()).prop_map(|(name, n)| Op::File(name, n)),
        3 => name().prop_map(Op::Dir),
        2 => (name(), target()).prop_map(|(name, to)| Op::Symlink(name, to)),
        2 => (name(), name()).prop_map(|(name, to)| Op::HardLink(name, to)),
        1 => name().prop_map(Op::Fifo),
    ]
}

fn tar(ops: &[Op]) -> Vec<u8> {
    let mut tar = Tar::new().dir("./");
    for op in ops {
        tar = match op {
            Op::File(name, n) => tar.file(name, &"x".repeat(usize::from(*n) * 9)),
            Op::Dir(name) => tar.dir(name),
            Op::Symlink(name, target) => tar.symlink(name, target),
            Op::HardLink(name, target) => tar.hard_link(name, target),
            Op::Fifo(name) => tar.raw(tar::EntryType::Fifo, name, "", b""),
        };
    }
    tar.finish()
}

/// What is compared: implied directories have no times of their own in an archive.
fn essence(root: &Path) -> BTreeMap<String, (u32, u64, String, Option<String>)> {
    describe(root)
        .into_iter()
        .map(|(name, node)| (name, (node.mode, node.links, node.content, node.same_as)))
        .collect()
}

/// Runs `check` over what `strategy` makes. The store is made once: that is what takes time.
fn for_all<S: Strategy>(
    cases: u32,
    strategy: S,
    check: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    if let Err(failed) = TestRunner::new(config).run(&strategy, check) {
        panic!("{failed}");
    }
}

/// The index that the kernel mounts and the files that are unpacked: two implementations of what an
/// archive means. They agree, also on what is refused.
#[test]
fn an_index_shows_what_unpacking_makes() {
    let bench = Bench::new();
    for_all(400, prop::collection::vec(op(), 1..24), |ops| {
        let tar = tar(&ops);
        let to = tempfile::tempdir().unwrap();
        let root = RootFd::open(to.path()).unwrap();
        let options = UnpackOptions::default();
        let unpacked = Extractor::on_thread().unpack(&root, Path::new(""), &mut &tar[..], &options);
        let imported = bench.import(&tar);
        match (&unpacked, &imported) {
            (Ok(_), Ok(layer)) => {
                let view = bench.view(std::slice::from_ref(&layer.diff_id));
                prop_assert_eq!(essence(to.path()), essence(&path(&view)));
            }
            (Err(_), Err(_)) => {}
            _ => prop_assert!(false, "{:?} but {:?}", unpacked, imported),
        }
        Ok(())
    });
}

/// An archive with every kind of header there is.
fn rich() -> Vec<u8> {
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.name", b"dir/sparse"),
        ("GNU.sparse.size", b"5000"),
        ("GNU.sparse.map", b"0,3,4096,7"),
    ];
    Tar::new()
        .dir("./")
        .dir("dir")
        .pax(&[
            ("mtime", b"1700000000.123456789"),
            ("uid", b"70000"),
            ("SCHILY.xattr.user.k", b"value"),
        ])
        .file("dir/file", "some content")
        .pax(sparse)
        .file("GNUSparseFile.0/sparse", "0123456789")
        .file(&format!("dir/{}", "long-".repeat(40)), "x")
        .symlink("dir/link", &"../".repeat(50))
        .hard_link("second", "dir/file")
        .raw(tar::EntryType::Fifo, "pipe", "", b"")
        .finish()
}

/// Damage with a right checksum, so that it gets past the first look.
fn damage(tar: &mut [u8], changes: &[(usize, u8)]) {
    let blocks = tar.len() / 512;
    for (at, byte) in changes {
        let at = at % tar.len();
        tar[at] = *byte;
        let block = &mut tar[at / 512 % blocks * 512..][..512];
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Whatever is in it, an archive is taken or refused; nothing panics, nothing gets out, and what was
/// taken can be read to the last byte.
#[test]
fn damaged_archives_are_taken_or_refused() {
    let bench = Bench::new();
    let rich = rich();
    let changes = prop::collection::vec((any::<usize>(), any::<u8>()), 1..6);
    for_all(200, changes, |changes| {
        let mut tar = rich.clone();
        damage(&mut tar, &changes);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        let root = RootFd::open(&dir.path().join("root")).unwrap();
        let _ = Extractor::on_thread().unpack(
            &root,
            Path::new(""),
            &mut &tar[..],
            &UnpackOptions::default(),
        );
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        if let Ok(layer) = bench.import(&tar) {
            describe(&path(&bench.view(&[layer.diff_id])));
        }
        Ok(())
    });
}

/// A layer of the stack model: names are of two levels, so that whiteouts and opaque directories
/// have something to hide.
#[derive(Clone, Debug)]
enum Change {
    File(&'static str, &'static str),
    Dir(&'static str),
    Whiteout(&'static str, Option<&'static str>),
    Opaque(&'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let top = || prop::sample::select(vec!["a", "b", "c"]);
    let leaf = || prop::sample::select(vec!["x", "y"]);
    prop_oneof![
        4 => (top(), leaf()).prop_map(|(dir, name)| Change::File(dir, name)),
        1 => top().prop_map(Change::Dir),
        2 => (top(), prop::option::of(leaf())).prop_map(|(dir, name)| Change::Whiteout(dir, name)),
        1 => top().prop_map(Change::Opaque),
    ]
}

/// The slow model: a stack is a map from paths to contents, and a layer changes it by the words of
/// the image specification (layer.md, "Whiteouts"): what it hides is of the layers below only.
fn apply(stack: &mut BTreeMap<String, String>, layer: &[Change], number: usize) {
    let below = |stack: &mut BTreeMap<String, String>, dir: &str, with: bool| {
        let inside = format!("{dir}/");
        stack.retain(|path, _| !path.starts_with(&inside) && (!with || path != dir));
    };
    for change in layer {
        match change {
            Change::Whiteout(dir, None) => below(stack, dir, true),
            Change::Whiteout(dir, Some(name)) => below(stack, &format!("{dir}/{name}"), true),
            Change::Opaque(dir) => below(stack, dir, false),
            _ => {}
        }
    }
    for change in layer {
        match change {
            Change::File(dir, name) => {
                stack.insert((*dir).to_owned(), String::new());
                stack.insert(format!("{dir}/{name}"), number.to_string());
            }
            Change::Dir(dir) | Change::Opaque(dir) => {
                stack.insert((*dir).to_owned(), String::new());
            }
            // The directory that a whiteout stands in is there.
            Change::Whiteout(dir, Some(_)) => {
                stack.insert((*dir).to_owned(), String::new());
            }
            Change::Whiteout(_, None) => {}
        }
    }
}

fn layer(changes: &[Change], number: usize) -> Vec<u8> {
    // A name of its own, so that no two layers are equal.
    let mut tar = Tar::new().file(&format!("layer-{number}"), "");
    for change in changes {
        tar = match change {
            Change::File(dir, name) => tar.file(&format!("{dir}/{name}"), &number.to_string()),
            Change::Dir(dir) => tar.dir(dir),
            Change::Whiteout(dir, None) => tar.file(&format!(".wh.{dir}"), ""),
            Change::Whiteout(dir, Some(name)) => tar.file(&format!("{dir}/.wh.{name}"), ""),
            Change::Opaque(dir) => tar.file(&format!("{dir}/.wh..wh..opq"), ""),
        };
    }
    tar.finish()
}

#[test]
fn a_stack_shows_what_the_model_says() {
    let bench = Bench::new();
    let layers = prop::collection::vec(prop::collection::vec(change(), 0..8), 1..6);
    for_all(150, layers, |layers| {
        let mut model = BTreeMap::new();
        let mut diff_ids = Vec::new();
        for (number, changes) in layers.iter().enumerate() {
            apply(&mut model, changes, number);
            model.insert(format!("layer-{number}"), String::new());
            diff_ids.push(bench.layer(&layer(changes, number)));
        }
        let view = bench.view(&diff_ids);
        compare(&path(&view), &model)?;
        let snapshots = bench.store.snapshots();
        snapshots.create("c", &diff_ids).unwrap();
        compare(&path(&snapshots.mount("c").unwrap()), &model)?;
        snapshots.remove("c").unwrap();
        Ok(())
    });
}

/// By looking up: a listing may show whiteouts of layers that had nothing to hide.
fn compare(root: &Path, model: &BTreeMap<String, String>) -> Result<(), TestCaseError> {
    for (name, content) in model {
        let found = root.join(name);
        if found.is_dir() {
            prop_assert!(content.is_empty(), "{}", name);
        } else {
            let read = std::fs::read_to_string(&found).ok();
            prop_assert_eq!(read.as_ref(), Some(content), "{}", name);
        }
    }
    for dir in ["", "a", "b", "c"] {
        for name in ["a", "b", "c", "x", "y"] {
            let path = [dir, name].join("/");
            let path = path.trim_start_matches('/');
            let exists = root.join(path).exists();
            prop_assert_eq!(exists, model.contains_key(path), "{}", path);
        }
    }
    Ok(())
}
