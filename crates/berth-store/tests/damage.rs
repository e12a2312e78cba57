//! A bit flipped anywhere in the image database, or in the small file beside it, costs no image and no
//! name; and what happens to an image at the same time as something else.

use std::fs;
use std::path::Path;

use berth_spec::Digest;
use berth_spec::oci::image::ImageConfig;
use berth_store::archive::import_root;
use berth_store::tree::Extractor;
use berth_store::{Store, StoreOptions};

fn open(dir: &Path) -> Store {
    Store::open(StoreOptions {
        root: dir.join("root"),
        run_dir: dir.join("run"),
        extractor: Extractor::on_thread(),
    })
    .unwrap()
}

fn image(store: &Store, name: &str) -> Digest {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(name.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, name.as_bytes()).unwrap();
    let tar = tar.into_inner().unwrap();
    let image = import_root(store, &mut &tar[..], ImageConfig::default(), "").unwrap();
    store
        .images()
        .tag(&format!("{name}:1").parse().unwrap(), &image.id)
        .unwrap();
    image.id
}

/// What is found of three images, with a snapshot over one.
fn check(dir: &Path, ids: &[Digest], what: &str) {
    let store = open(dir);
    for (name, id) in ["one", "two", "three"].iter().zip(ids) {
        let found = store.images().resolve(&format!("{name}:1"));
        let found = found.unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
        assert_eq!(found.id, *id, "{what}");
        store.snapshots().view(found.layers()).unwrap();
    }
    let listed = store.images().list().unwrap().len();
    assert!(listed >= 3, "{what}: {listed} are listed");
}

#[test]
fn a_flipped_bit_in_the_database_costs_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<Digest> = {
        let store = open(dir.path());
        ["one", "two", "three"].map(|n| image(&store, n)).into()
    };
    for file in ["berth.db", "images.json"] {
        let path = dir.path().join("root").join(file);
        let whole = fs::read(&path).unwrap();
        // A prime, so that all kinds of places in a page are met.
        for at in (0..whole.len()).step_by((whole.len() / 60) | 1) {
            let mut torn = whole.clone();
            torn[at] ^= 1 << (at % 8);
            fs::write(&path, torn).unwrap();
            check(dir.path(), &ids, &format!("{file}, byte {at}"));
            fs::write(&path, &whole).unwrap();
            for aside in fs::read_dir(dir.path().join("root")).unwrap().flatten() {
                if aside.file_name().to_string_lossy().contains(".damaged-") {
                    fs::remove_file(aside.path()).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_lost_database_costs_no_image_and_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let key = "5".repeat(64);
    let ids: Vec<Digest> = {
        let store = open(dir.path());
        let ids = ["one", "two", "three"].map(|n| image(&store, n));
        let gone = image(&store, "gone");
        store.images().remove(&gone).unwrap();
        let layers = store.images().get(&ids[0]).unwrap().layers().to_vec();
        store.snapshots().create(&key, &layers).unwrap();
        ids.into()
    };
    fs::write(dir.path().join("root/berth.db"), [0x5a; 9000]).unwrap();
    {
        let store = open(dir.path());
        let warnings = store.warnings().join("; ");
        assert!(
            warnings.contains("3 images with 3 names were found again"),
            "{warnings}"
        );
        assert!(store.images().resolve("gone:1").is_err());
        store.snapshots().mount(&key).unwrap();
    }
    check(dir.path(), &ids, "afterwards");
    assert!(open(dir.path()).warnings().is_empty());
}

#[test]
fn an_image_that_has_been_named_meanwhile_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = image(&store, "one");
    // Who is about to remove it saw it without a name.
    assert!(!store.images().remove_untagged(&id).unwrap());
    assert_eq!(store.images().resolve("one:1").unwrap().id, id);
    store.images().untag(&"one:1".parse().unwrap()).unwrap();
    assert!(store.images().remove_untagged(&id).unwrap());
    assert!(store.images().get(&id).is_err());
}
