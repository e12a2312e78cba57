//! Blobs: visible once verified, never before; kept while held.

use std::io::{Read, Write};

use berth_store::{ErrorKind, Store, StoreOptions, hash};

fn open(dir: &std::path::Path) -> Store {
    Store::open(StoreOptions {
        root: dir.join("root"),
        run_dir: dir.join("run"),
        extractor: berth_store::tree::Extractor::on_thread(),
    })
    .unwrap()
}

fn files_below(dir: &std::path::Path) -> usize {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| if p.is_dir() { files_below(&p) } else { 1 })
        .sum()
}

#[test]
fn a_blob_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let data = vec![7_u8; 100_000];
    let digest = hash::sha256(&data);
    let mut ingest = store
        .content()
        .ingest(&lease, Some((&digest, data.len() as u64)))
        .unwrap();
    for chunk in data.chunks(999) {
        ingest.write_all(chunk).unwrap();
        assert_eq!(store.content().info(&digest).unwrap(), None);
    }
    assert_eq!(ingest.commit().unwrap(), (digest.clone(), 100_000));
    assert_eq!(
        store.content().info(&digest).unwrap().unwrap().size,
        100_000
    );
    let mut read = Vec::new();
    store
        .content()
        .open(&digest)
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert_eq!(read, data);
    assert_eq!(store.content().read(&digest, 100_000).unwrap(), data);
    let error = store.content().read(&digest, 99_999).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn what_does_not_verify_is_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let digest = hash::sha256(b"right");
    for (bytes, size) in [(&b"wrong"[..], 5), (b"right", 6), (b"righ", 5)] {
        let mut ingest = store
            .content()
            .ingest(&lease, Some((&digest, size)))
            .unwrap();
        ingest.write_all(bytes).unwrap();
        let error = ingest.commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let mut ingest = store.content().ingest(&lease, Some((&digest, 5))).unwrap();
    let error = ingest.write_all(b"right and more").unwrap_err();
    let error = berth_store::Error::io("x", error);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    drop(ingest);
    assert_eq!(store.content().info(&digest).unwrap(), None);
    assert_eq!(files_below(&dir.path().join("root/content")), 0);
}

#[test]
fn a_process_that_died_in_mid_ingest_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let mut ingest = store.content().ingest(&lease, None).unwrap();
    ingest.write_all(b"half").unwrap();
    // What a killed process leaves: the file, without anybody who would remove it.
    let stray = dir.path().join("root/content/ingest/stray");
    std::fs::write(&stray, b"half").unwrap();
    drop(ingest);
    drop((lease, store));
    let store = open(dir.path());
    assert_eq!(files_below(&dir.path().join("root/content")), 0);
    drop(store);
}

#[test]
fn damage_on_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = store
        .content()
        .put(&store.lease().unwrap(), b"precious")
        .unwrap();
    let path = dir.path().join("root/content/sha256").join(digest.hex());
    std::fs::write(path, b"preciouz").unwrap();
    let error = store.content().read(&digest, 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let again = Store::open(StoreOptions {
        root: dir.path().join("root"),
        run_dir: dir.path().join("run"),
        extractor: berth_store::tree::Extractor::on_thread(),
    });
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Conflict);
    drop(store);
    open(dir.path());
}
