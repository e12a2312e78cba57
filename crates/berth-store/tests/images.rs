//! Images: what a text names, what the collector leaves alone.

use berth_spec::oci::image::{ImageConfig, RootFs};
use berth_spec::{Digest, Reference};
use berth_store::{ErrorKind, Image, NewImage, Store, StoreOptions, hash};

fn open(dir: &std::path::Path) -> Store {
    Store::open(StoreOptions {
        root: dir.join("root"),
        run_dir: dir.join("run"),
        extractor: berth_store::tree::Extractor::on_thread(),
    })
    .unwrap()
}

fn config(name: &str, layers: &[Digest]) -> Vec<u8> {
    let config = ImageConfig {
        author: Some(name.into()),
        architecture: "amd64".into(),
        os: "linux".into(),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: layers.to_vec(),
        },
        ..ImageConfig::default()
    };
    serde_json::to_vec(&config).unwrap()
}

fn add(store: &Store, name: &str, layers: &[Digest], parent: Option<&Digest>) -> Image {
    let image = NewImage {
        config: config(name, layers),
        manifest: None,
        parent: parent.cloned(),
    };
    store.images().add(&store.lease().unwrap(), image).unwrap()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn a_text_names_what_docker_says_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let images = store.images();
    let one = add(&store, "one", &[], None);
    let two = add(&store, "two", &[], Some(&one.id));
    let hex = one.id.hex().to_owned();
    images.tag(&reference("app:1"), &one.id).unwrap();
    images.tag(&reference("app:latest"), &two.id).unwrap();
    let shown = hash::sha256(b"manifest");
    images
        .tag(
            &reference("reg.example:5000/app").with_digest(shown.clone()),
            &one.id,
        )
        .unwrap();
    // A name that looks like the beginning of an ID is a name first.
    images
        .tag(&reference(&format!("{}:latest", &hex[..6])), &two.id)
        .unwrap();

    let cases = [
        ("app:1".to_owned(), &one.id),
        ("docker.io/library/app:1".into(), &one.id),
        ("app".into(), &two.id),
        (format!("reg.example:5000/app@{shown}"), &one.id),
        (format!("reg.example:5000/app:any@{shown}"), &one.id),
        (format!("app@{}", one.id), &one.id),
        (hex.clone(), &one.id),
        (one.id.to_string(), &one.id),
        (hex[..7].to_owned(), &one.id),
        (format!("sha256:{}", &hex[..12]), &one.id),
        (hex[..6].to_owned(), &two.id),
    ];
    for (text, id) in cases {
        assert_eq!(
            images
                .resolve(&text)
                .unwrap_or_else(|e| panic!("{text}: {e}"))
                .id,
            *id,
            "{text}"
        );
    }
    let none = "0".repeat(64);
    for (text, kind, message) in [
        (
            "nope",
            ErrorKind::NotFound,
            "No such image: nope:latest".to_owned(),
        ),
        (
            "reg.example/x:y",
            ErrorKind::NotFound,
            "No such image: reg.example/x:y".into(),
        ),
        (
            &none[..],
            ErrorKind::NotFound,
            format!("No such image: {none}"),
        ),
        (
            "App",
            ErrorKind::Invalid,
            "invalid reference format: repository name (App) must be lowercase".into(),
        ),
        ("", ErrorKind::Invalid, "invalid reference format".into()),
    ] {
        let error = images.resolve(text).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (kind, message), "{text}");
    }
    assert_eq!(
        images.children(&one.id).unwrap(),
        std::slice::from_ref(&two.id)
    );
}

#[test]
fn an_ambiguous_beginning_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Seventeen IDs have sixteen first digits to share.
    let ids: Vec<_> = (0..17)
        .map(|n| add(&store, &n.to_string(), &[], None).id)
        .collect();
    let first = ids
        .iter()
        .map(|id| &id.hex()[..1])
        .find(|d| ids.iter().filter(|id| id.hex().starts_with(d)).count() > 1)
        .unwrap();
    let error = store.images().resolve(first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
}

#[test]
fn names_move_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let images = store.images();
    let (one, two) = (add(&store, "one", &[], None), add(&store, "two", &[], None));
    assert!(one.last_tagged.is_none());
    let name = reference("app:1");
    images.tag(&name, &one.id).unwrap();
    assert!(images.get(&one.id).unwrap().last_tagged.is_some());
    images.tag(&name, &two.id).unwrap();
    assert!(images.get(&one.id).unwrap().tags.is_empty());
    assert_eq!(
        images.get(&two.id).unwrap().tags,
        std::slice::from_ref(&name)
    );
    drop(store);
    let store = open(dir.path());
    let images = store.images();
    assert_eq!(images.list().unwrap().len(), 2);
    assert_eq!(images.untag(&name).unwrap(), Some(two.id.clone()));
    assert_eq!(images.untag(&name).unwrap(), None);
    images.remove(&two.id).unwrap();
    assert_eq!(
        images.remove(&two.id).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        images.tag(&name, &two.id).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        images.tag(&reference("app"), &one.id).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn an_image_needs_its_layers_and_a_sane_config() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let absent = hash::sha256(b"no such layer");
    let many = vec![absent.clone(); 501];
    let bad: [(Vec<u8>, ErrorKind); 6] = [
        (config("x", &[absent]), ErrorKind::NotFound),
        (config("x", &many), ErrorKind::Invalid),
        (b"null".to_vec(), ErrorKind::Invalid),
        (b"{".to_vec(), ErrorKind::Invalid),
        (
            br#"{"rootfs":{"type":"windows","diff_ids":[]}}"#.to_vec(),
            ErrorKind::Invalid,
        ),
        (vec![b' '; 9 << 20], ErrorKind::Invalid),
    ];
    for (config, kind) in bad {
        let image = NewImage {
            config,
            manifest: None,
            parent: None,
        };
        let error = store.images().add(&lease, image).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert!(store.images().list().unwrap().is_empty());
}

#[test]
fn the_collector_takes_what_nobody_needs_or_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let image = add(&store, "kept", &[], None);
    let lease = store.lease().unwrap();
    let held = store.content().put(&lease, b"held").unwrap();
    let recorded = store.content().put(&lease, b"recorded").unwrap();
    store
        .records()
        .put(
            &lease,
            "test",
            "key",
            b"value",
            &[],
            std::slice::from_ref(&recorded),
        )
        .unwrap();
    let loose = store
        .content()
        .put(&store.lease().unwrap(), b"loose")
        .unwrap();
    let here = |d: &Digest| store.content().info(d).unwrap().is_some();

    let before = store.usage().unwrap().content;
    let collected = store.collect().unwrap();
    assert_eq!((collected.blobs, collected.layers), (1, 0));
    assert_eq!(store.usage().unwrap().content, before - collected.bytes);
    assert!(here(&image.id) && here(&held) && here(&recorded) && !here(&loose));

    drop(lease);
    assert_eq!(store.collect().unwrap().blobs, 1);
    assert!(here(&image.id) && !here(&held) && here(&recorded));

    let lease = store.lease().unwrap();
    assert_eq!(
        store.records().get(&lease, "test", "key").unwrap().unwrap(),
        b"value"
    );
    assert!(store.records().remove("test", "key").unwrap());
    store.images().remove(&image.id).unwrap();
    assert_eq!(store.collect().unwrap().blobs, 1);
    assert!(
        !here(&image.id) && here(&recorded),
        "the lease of the reader holds it"
    );
    drop(lease);
    assert_eq!(store.collect().unwrap().blobs, 1);
    assert!(!here(&recorded));
    assert_eq!(store.collect().unwrap(), berth_store::Collected::default());
}

#[test]
fn a_damaged_database_is_said_and_costs_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    add(&store, "one", &[], None);
    drop(store);
    let db = dir.path().join("root/berth.db");
    let len = std::fs::metadata(&db).unwrap().len();
    std::fs::write(&db, vec![0xff; usize::try_from(len).unwrap()]).unwrap();
    let store = open(dir.path());
    assert!(
        store.warnings()[0].contains("berth.db.damaged-1"),
        "{:?}",
        store.warnings()
    );
    assert_eq!(store.images().list().unwrap().len(), 1);
    add(&store, "two", &[], None);
    assert_eq!(store.images().list().unwrap().len(), 2);
}

#[test]
fn the_collector_leaves_layers_that_somebody_needs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let tar = testkit::rootfs::busybox_tar();
    let lease = store.lease().unwrap();
    let layer = store
        .layers()
        .import(&lease, &mut &tar[..], None)
        .unwrap()
        .diff_id;
    let blob = store.compress_layer(&lease, &layer).unwrap();
    let here = || store.layers().get(&layer).unwrap().is_some();
    assert_eq!(store.collect().unwrap().layers, 0, "the lease holds it");

    store
        .snapshots()
        .create("box", std::slice::from_ref(&layer))
        .unwrap();
    drop(lease);
    assert_eq!(store.collect().unwrap().layers, 0, "the snapshot needs it");
    let image = add(&store, "box", std::slice::from_ref(&layer), None);
    assert_eq!(image.size, tar.len() as u64);
    store.snapshots().remove("box").unwrap();
    assert_eq!(store.collect().unwrap().layers, 0, "the image needs it");
    assert!(here() && store.content().info(&blob.digest).unwrap().is_some());

    store.images().remove(&image.id).unwrap();
    let used = store.usage().unwrap();
    let collected = store.collect().unwrap();
    assert_eq!((collected.layers, collected.blobs), (1, 2));
    assert_eq!(
        collected.bytes,
        used.layers + used.spare_layers + used.content
    );
    assert!(!here());
    assert!(store.snapshots().create("box", &[layer]).is_err());
    assert!(!store.snapshots().exists("box").unwrap());
}
