//! What was acknowledged survives the death of the process at any moment; what was not leaves
//! nothing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use berth_spec::oci::image::ImageConfig;
use berth_store::archive::import_root;
use berth_store::{Store, StoreOptions};

/// Set for the process that is going to be killed: where its store is.
const DIR: &str = "BERTH_TEST_KILL_DIR";

fn open(dir: &Path) -> Store {
    Store::open(StoreOptions {
        root: dir.join("root"),
        run_dir: dir.join("run"),
        extractor: berth_store::tree::Extractor::on_thread(),
    })
    .unwrap()
}

/// A tar with one file of `size` bytes and a name of its own.
fn tar(number: u64, size: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o644);
    let data = vec![number as u8; size];
    builder
        .append_data(&mut header, format!("file-{number}"), &data[..])
        .unwrap();
    builder.into_inner().unwrap()
}

/// The process to be killed: makes images, names them, removes every third, and says each time that
/// it is done.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let store = open(Path::new(&dir));
    let mut out = std::io::stdout().lock();
    for number in 0.. {
        let tar = tar(number, 300_000);
        let image = import_root(&store, &mut &tar[..], ImageConfig::default(), "").unwrap();
        let name = format!("image:{number}").parse().unwrap();
        store.images().tag(&name, &image.id).unwrap();
        writeln!(out, "\nmade {number}").unwrap();
        if number % 3 == 2 {
            store.images().remove(&image.id).unwrap();
            writeln!(out, "\nremoved {number}").unwrap();
            store.collect().unwrap();
        }
    }
}

#[test]
fn acknowledged_images_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut made = std::collections::BTreeSet::new();
    for round in 1..=8 {
        let rounds = tempfile::tempdir_in(dir.path()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(DIR, rounds.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        made.clear();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Each round dies a little later, wherever it is then.
        for line in lines.map_while(Result::ok).filter(|l| !l.is_empty()) {
            match line.split_once(' ') {
                Some(("made", number)) => drop(made.insert(number.to_owned())),
                Some(("removed", number)) => drop(made.remove(number)),
                _ => {}
            }
            if made.len() >= round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        verify(rounds.path(), &made);
    }
}

fn verify(dir: &Path, made: &std::collections::BTreeSet<String>) {
    let store = open(dir);
    assert!(store.warnings().is_empty());
    for number in made {
        let image = match store.images().resolve(&format!("image:{number}")) {
            Ok(image) => image,
            // It was about to be removed, and nobody read that it had been.
            Err(_) if number.parse::<u64>().unwrap() % 3 == 2 => continue,
            Err(e) => panic!("image:{number} was acknowledged: {e}"),
        };
        for diff_id in image.layers() {
            let mut tar = store.layers().open_tar(diff_id).unwrap();
            let mut hasher = berth_store::hash::Hasher::new();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut tar, &mut bytes).unwrap();
            hasher.update(&bytes);
            assert_eq!(hasher.finish(), *diff_id);
        }
    }
    // At most the step that nobody was told of is more than that.
    let images = store.images().list().unwrap();
    assert!(
        images.len() <= made.len() + 1,
        "{} of {made:?}",
        images.len()
    );
    store.collect().unwrap();
    let used = store.usage().unwrap();
    assert_eq!(used.layer_count as usize, images.len());
    for image in &images {
        store.images().remove(&image.id).unwrap();
    }
    store.collect().unwrap();
    let used = store.usage().unwrap();
    assert_eq!((used.content, used.layers), (0, 0));
    for empty in [
        "root/trash",
        "root/content/ingest",
        "root/content/sha256",
        "root/layers/new",
    ] {
        let left: Vec<_> = std::fs::read_dir(dir.join(empty)).unwrap().collect();
        assert!(left.is_empty(), "{empty}: {left:?}");
    }
    let layers = std::fs::read_dir(dir.join("root/layers")).unwrap().count();
    assert_eq!(layers, 1, "only `new` is left of the layers");
}
