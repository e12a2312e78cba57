//! What `verify` finds: one flipped bit anywhere, and which images it costs.

mod bench;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bench::{Bench, Tar};
use berth_spec::Digest;
use berth_spec::oci::image::Descriptor;
use berth_store::{Damage, NewImage, Part, Verified};

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

fn sparse() -> Vec<u8> {
    // A GNU sparse file of 1 MiB of which one block is stored.
    Tar::new()
        .header(&[7; 512], |header| {
            header.set_entry_type(tar::EntryType::GNUSparse);
            header.set_path("sparse").unwrap();
            header.set_size(512);
            let gnu = header.as_gnu_mut().unwrap();
            gnu.sparse[0].offset.copy_from_slice(b"00001000000\0");
            gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
            gnu.realsize.copy_from_slice(b"00004000000\0");
        })
        .finish()
}

struct Shelf {
    bench: Bench,
    /// Both have the shared layer, each one of its own.
    ids: [Digest; 2],
    shared: Digest,
    own: [Digest; 2],
    blob: Digest,
    manifest: Digest,
}

impl Shelf {
    fn new() -> Shelf {
        let bench = Bench::new();
        let shared = bench.layer(&sparse());
        let own = ["one", "two"].map(|name| bench.layer(&Tar::new().file("who", name).finish()));
        let blob = bench.store.content().put(&bench.lease, b"zip").unwrap();
        let descriptor = Descriptor::new("application/x", blob.clone(), 3);
        bench
            .store
            .layers()
            .record_blob(&own[0], &descriptor)
            .unwrap();
        let manifest = b"{\"a\":1}".to_vec();
        let ids = [0, 1].map(|at| {
            let config = format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{shared}","{}"]}}}}"#,
                own[at]
            );
            let image = NewImage {
                config: config.into_bytes(),
                manifest: (at == 0).then(|| ("application/m".to_owned(), manifest.clone())),
                parent: None,
            };
            let image = bench.store.images().add(&bench.lease, image).unwrap();
            let name = format!("image:{at}").parse().unwrap();
            bench.store.images().tag(&name, &image.id).unwrap();
            image.id
        });
        let manifest = berth_store::hash::sha256(&manifest);
        Shelf {
            bench,
            ids,
            shared,
            own,
            blob,
            manifest,
        }
    }

    fn layer(&self, diff_id: &Digest, file: &str) -> PathBuf {
        let root = self.bench.dir.path().join("root/layers");
        root.join(diff_id.hex()).join(file)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let root = self.bench.dir.path().join("root/content/sha256");
        root.join(digest.hex())
    }

    fn verify(&self) -> Vec<Verified> {
        self.bench.store.verify(&[]).unwrap()
    }

    /// Flips a bit, looks, and flips it back.
    fn damage(&self, path: &Path, at: u64) -> [Vec<Damage>; 2] {
        flip(path, at);
        let found = self.verify();
        flip(path, at);
        assert_eq!(found.len(), 2, "{found:?}");
        [found[0].damage.clone(), found[1].damage.clone()]
    }
}

#[test]
fn what_is_whole_is_said_to_be() {
    let shelf = Shelf::new();
    let verified = shelf.verify();
    assert_eq!(verified.len(), 2, "{verified:?}");
    assert_eq!(
        (verified[0].layers, verified[0].blobs, &verified[0].damage),
        (2, 3, &vec![])
    );
    assert_eq!(verified[0].names, ["docker.io/library/image:0"]);
    assert_eq!((verified[1].layers, verified[1].blobs), (2, 1));
    let one = shelf.bench.store.verify(&shelf.ids[1..]).unwrap();
    assert_eq!(one, verified[1..]);
    // Nothing is left behind by looking.
    let new = shelf.bench.dir.path().join("root/layers/new");
    assert_eq!(fs::read_dir(new).unwrap().count(), 0);
}

#[test]
fn every_flipped_bit_is_found_and_costs_its_images_only() {
    let shelf = Shelf::new();
    if !shelf.layer(&shelf.own[0], "layer.erofs").exists() {
        return testkit::skipped("this kernel mounts no EROFS from files");
    }
    let own = &shelf.own[0];
    let blobs = [(&shelf.ids[0], 3), (&shelf.manifest, 1), (&shelf.blob, 0)];
    for (digest, at) in blobs {
        let [first, second] = shelf.damage(&shelf.blob(digest), at);
        assert_eq!(second, []);
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!((first[0].part, &first[0].digest), (Part::Blob, digest));
    }
    let index = fs::metadata(shelf.layer(own, "layer.erofs")).unwrap().len();
    let tar = fs::metadata(shelf.layer(own, "layer.tar")).unwrap().len();
    for (file, end) in [("layer.tar", tar), ("layer.erofs", index)] {
        for at in [0, end / 2, end - 1] {
            let [first, second] = shelf.damage(&shelf.layer(own, file), at);
            assert_eq!(second, []);
            assert_eq!(first.len(), 1, "{file} {at}: {first:?}");
            assert_eq!((first[0].part, &first[0].digest), (Part::Layer, own));
            assert!(first[0].problem.contains(file), "{first:?}");
        }
    }
    let side = shelf.layer(&shelf.shared, "layer.data");
    for at in [0, (256 << 10) + 5, (1 << 20) - 1] {
        for found in shelf.damage(&side, at) {
            assert_eq!(found.len(), 1, "{at}: {found:?}");
            assert!(found[0].problem.contains("layer.data"), "{found:?}");
        }
    }
    assert!(shelf.verify().iter().all(|image| image.damage.is_empty()));
}

#[test]
fn what_is_missing_is_told() {
    let shelf = Shelf::new();
    // A compressed layer may go; a manifest may not, nor a layer.
    fs::remove_file(shelf.blob(&shelf.blob)).unwrap();
    assert!(shelf.verify().iter().all(|image| image.damage.is_empty()));
    fs::remove_file(shelf.blob(&shelf.manifest)).unwrap();
    fs::remove_file(shelf.layer(&shelf.own[1], "layer.tar")).unwrap();
    let found = shelf.verify();
    assert_eq!(found[0].damage[0].digest, shelf.manifest);
    assert_eq!(found[1].damage[0].problem, "layer.tar is missing");
}

#[test]
fn a_damaged_config_hides_one_image_which_can_be_removed() {
    let shelf = Shelf::new();
    // As after a restart: nothing is in memory.
    let Shelf { bench, ids, .. } = shelf;
    let Bench { dir, store, lease } = bench;
    drop((lease, store));
    flip(
        &dir.path().join("root/content/sha256").join(ids[0].hex()),
        9,
    );
    let store = bench::open(dir.path());
    let images = store.images();
    assert_eq!(images.list().unwrap().len(), 1);
    let error = images.resolve("image:0").unwrap_err();
    assert!(error.to_string().contains("damaged on disk"), "{error}");
    let id = images.resolve_id("image:0").unwrap();
    assert_eq!(images.outline(&id).unwrap().tags.len(), 1);
    images.remove(&id).unwrap();
    store.collect().unwrap();
    let left = store.verify(&[]).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].image.as_ref(), Some(&ids[1]));
    assert_eq!(left[0].damage, []);
}
