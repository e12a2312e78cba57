//! Archives: what was saved loads again, what others saved loads, what is hostile does nothing.

use std::io::{Read, Write};

use berth_spec::Digest;
use berth_spec::oci::image::{ImageConfig, RootFs, media_type};
use berth_store::archive::{LoadEvent, Loaded, SaveItem, import_root, load, save};
use berth_store::{ErrorKind, Image, Result, Store, StoreOptions, hash};

struct TestStore {
    store: Store,
    dir: tempfile::TempDir,
}

impl TestStore {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions {
            root: dir.path().join("root"),
            run_dir: dir.path().join("run"),
            extractor: berth_store::tree::Extractor::on_thread(),
        })
        .unwrap();
        Self { store, dir }
    }

    fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>> {
        load(&self.store, &mut &*archive, &mut |_| ())
    }

    /// An image of two layers called `names`.
    fn image(&self, names: &[&str]) -> Image {
        let lease = self.store.lease().unwrap();
        let diff_ids: Vec<Digest> = [testkit::rootfs::busybox_tar(), layer_tar("second")]
            .iter()
            .map(|tar| {
                let layers = self.store.layers();
                layers.import(&lease, &mut &tar[..], None).unwrap().diff_id
            })
            .collect();
        let new = berth_store::NewImage {
            config: config(&diff_ids),
            manifest: None,
            parent: None,
        };
        let image = self.store.images().add(&lease, new).unwrap();
        for name in names {
            let name = name.parse().unwrap();
            self.store.images().tag(&name, &image.id).unwrap();
        }
        self.store.images().get(&image.id).unwrap()
    }

    fn save(&self, image: &Image) -> Vec<u8> {
        let item = SaveItem {
            image: image.id.clone(),
            names: image.tags.clone(),
        };
        let mut archive = Vec::new();
        save(&self.store, &[item], &mut archive).unwrap();
        archive
    }

    fn tar_of(&self, diff_id: &Digest) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut tar = self.store.layers().open_tar(diff_id).unwrap();
        tar.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    serde_json::to_vec(&ImageConfig {
        architecture: berth_store::platform::architecture().into(),
        os: "linux".into(),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: diff_ids.to_vec(),
        },
        ..ImageConfig::default()
    })
    .unwrap()
}

fn layer_tar(text: &str) -> Vec<u8> {
    tar(&[("motd", Member::File(text.as_bytes()))])
}

enum Member<'a> {
    File(&'a [u8]),
    Symlink(&'a str),
    HardLink(&'a str),
}

/// A tar with these members, whose names are written as they are, sane or not.
fn tar(members: &[(&str, Member<'_>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, member) in members {
        let mut header = tar::Header::new_gnu();
        let (kind, link, data) = match member {
            Member::File(data) => (tar::EntryType::Regular, "", *data),
            Member::Symlink(to) => (tar::EntryType::Symlink, *to, &b""[..]),
            Member::HardLink(to) => (tar::EntryType::Link, *to, &b""[..]),
        };
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_was_saved_loads_as_it_was() {
    let (here, there) = (TestStore::new(), TestStore::new());
    let image = here.image(&["app:1", "reg.example:5000/team/app:x"]);
    let archive = here.save(&image);
    assert!(
        archive == here.save(&image),
        "equal images give equal bytes"
    );

    let mut events = Vec::new();
    let loaded = load(&there.store, &mut &archive[..], &mut |e| events.push(e)).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].image, image.id);
    assert_eq!(loaded[0].names, image.tags);
    assert_eq!(
        events.last().unwrap(),
        &LoadEvent::Loaded(loaded[0].clone())
    );
    assert!(
        events
            .iter()
            .any(|e| matches!(e, LoadEvent::Layer { current, total, .. } if current == total))
    );
    let found = there.store.images().resolve("app:1").unwrap();
    assert_eq!((&found.id, &found.tags), (&image.id, &image.tags));
    for diff_id in image.layers() {
        assert!(here.tar_of(diff_id) == there.tar_of(diff_id));
    }
    assert!(archive == there.save(&found));
    // Once more, into a store that has it.
    assert_eq!(there.load(&archive).unwrap(), loaded);

    // An OCI layout it is, too.
    let mut members = tar::Archive::new(&archive[..]);
    let names: Vec<String> = members
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    for name in ["oci-layout", "index.json", "manifest.json", "repositories"] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
}

#[test]
fn whatever_the_whole_is_compressed_with() {
    let here = TestStore::new();
    let image = here.image(&["app:1"]);
    let archive = here.save(&image);
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(&archive).unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&archive).unwrap();
    for form in [
        gzip(&archive),
        zstd::encode_all(&archive[..], 1).unwrap(),
        xz.finish().unwrap(),
        bz.finish().unwrap(),
    ] {
        let there = TestStore::new();
        assert_eq!(there.load(&form).unwrap()[0].image, image.id);
    }
}

#[test]
fn dockers_older_form_with_links_between_equal_layers() {
    let there = TestStore::new();
    let layer = layer_tar("once");
    let diff_id = hash::sha256(&layer);
    let config = config(&[diff_id.clone(), diff_id.clone(), diff_id]);
    let manifest = br#"[{"Config":"cafe.json","RepoTags":["old:1"],"Layers":["aa/layer.tar","bb/layer.tar","cc/layer.tar"]},{"Config":"cafe.json","RepoTags":null,"Layers":["aa/layer.tar","bb/layer.tar","cc/layer.tar"]}]"#;
    let archive = tar(&[
        ("bb/layer.tar", Member::Symlink("../aa/layer.tar")),
        ("aa/VERSION", Member::File(b"1.0")),
        ("aa/layer.tar", Member::File(&layer)),
        ("cc/layer.tar", Member::HardLink("aa/layer.tar")),
        ("cafe.json", Member::File(&config)),
        ("manifest.json", Member::File(manifest)),
    ]);
    let loaded = there.load(&archive).unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(loaded[0].names[0].familiar(), "old:1");
    assert!(loaded[1].names.is_empty());
    let image = there.store.images().resolve("old:1").unwrap();
    assert_eq!(image.layers().len(), 3);
    assert_eq!(image.size, 3 * layer.len() as u64);
}

#[test]
fn an_oci_layout_with_compressed_layers_keeps_the_blobs() {
    let there = TestStore::new();
    let layer = layer_tar("compressed");
    let blob = gzip(&layer);
    let config = config(&[hash::sha256(&layer)]);
    let describe = |kind: &str, bytes: &[u8]| {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#,
            hash::sha256(bytes),
            bytes.len()
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        describe(media_type::OCI_CONFIG, &config),
        describe(media_type::OCI_LAYER_GZIP, &blob)
    );
    let attestation = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        describe(media_type::OCI_CONFIG, &config),
        describe("application/vnd.in-toto+json", b"{}")
    );
    let inner = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
        describe(media_type::OCI_MANIFEST, manifest.as_bytes()),
        describe(media_type::OCI_MANIFEST, attestation.as_bytes())
    );
    let named = describe(media_type::OCI_INDEX, inner.as_bytes()).replace(
        "}",
        r#","annotations":{"org.opencontainers.image.ref.name":"reg.example/oci:2"}}"#,
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{named},{}]}}"#,
        describe(media_type::OCI_MANIFEST, attestation.as_bytes())
    );
    let parts: Vec<(String, &[u8])> = [
        &blob[..],
        &config,
        manifest.as_bytes(),
        attestation.as_bytes(),
        inner.as_bytes(),
        b"{}",
    ]
    .into_iter()
    .map(|bytes| (format!("blobs/sha256/{}", hash::sha256(bytes).hex()), bytes))
    .collect();
    let mut members = vec![("index.json", Member::File(index.as_bytes()))];
    members.extend(parts.iter().map(|(n, b)| (&n[..], Member::File(b))));
    let loaded = there.load(&tar(&members)).unwrap();
    assert_eq!(loaded.len(), 1, "{loaded:?}");
    assert_eq!(loaded[0].names[0].to_string(), "reg.example/oci:2");
    let image = there.store.images().get(&loaded[0].image).unwrap();
    assert_eq!(
        image.manifest.unwrap().digest,
        hash::sha256(manifest.as_bytes())
    );
    let kept = there.store.layers().blobs(&hash::sha256(&layer)).unwrap();
    assert_eq!(kept[0].digest, hash::sha256(&blob));
    there.store.collect().unwrap();
    assert_eq!(
        there
            .store
            .content()
            .read(&kept[0].digest, 1 << 20)
            .unwrap(),
        blob
    );
}

/// What it is, its members, what the error says.
type Case<'a> = (&'a str, Vec<(&'a str, Member<'a>)>, &'a str);

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let there = TestStore::new();
    let layer = layer_tar("x");
    let good = config(&[hash::sha256(&layer)]);
    let other = config(&[hash::sha256(b"something else")]);
    let manifest = |config: &str, layer: &str, tag: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["{tag}"],"Layers":["{layer}"]}}]"#)
    };
    let plain = manifest("c.json", "l.tar", "a:1");
    let big = format!("[{}]", " ".repeat(5 << 20));
    let deep = "[".repeat(100_000);
    let outside = manifest("../../../etc/passwd", "l.tar", "a:1");
    let bad_tag = manifest("c.json", "l.tar", "A b");
    let no_tag = manifest("c.json", "l.tar", "a");
    let c = ("c.json", Member::File(&good));
    let l = || ("l.tar", Member::File(&layer));
    let m = |text: &'static str| ("manifest.json", Member::File(text.as_bytes()));
    let cases: Vec<Case<'_>> = vec![
        ("nothing", vec![], "does not contain a manifest.json"),
        ("no list", vec![m("null")], "invalid manifest.json"),
        (
            "nested",
            vec![("manifest.json", Member::File(deep.as_bytes()))],
            "invalid manifest.json",
        ),
        (
            "too large",
            vec![("manifest.json", Member::File(big.as_bytes()))],
            "bytes, more than",
        ),
        (
            "no config",
            vec![l(), ("manifest.json", Member::File(plain.as_bytes()))],
            "does not contain c.json",
        ),
        (
            "outside",
            vec![l(), ("manifest.json", Member::File(outside.as_bytes()))],
            "does not contain ../../../etc/passwd",
        ),
        (
            "config is a layer",
            vec![
                ("c.json", Member::File(&layer)),
                l(),
                ("manifest.json", Member::File(plain.as_bytes())),
            ],
            "not what it should be",
        ),
        (
            "layer is a config",
            vec![
                ("c.json", Member::File(&good)),
                ("l.tar", Member::File(b"{}")),
                ("manifest.json", Member::File(plain.as_bytes())),
            ],
            "is no tar",
        ),
        (
            "other layer",
            vec![
                ("c.json", Member::File(&other)),
                l(),
                ("manifest.json", Member::File(plain.as_bytes())),
            ],
            "invalid diffID for layer 0",
        ),
        (
            "bad tag",
            vec![
                ("c.json", Member::File(&good)),
                l(),
                ("manifest.json", Member::File(bad_tag.as_bytes())),
            ],
            "invalid tag",
        ),
        (
            "no tag",
            vec![
                ("c.json", Member::File(&good)),
                l(),
                ("manifest.json", Member::File(no_tag.as_bytes())),
            ],
            "invalid tag",
        ),
        (
            "link loop",
            vec![
                c,
                ("l.tar", Member::Symlink("k.tar")),
                ("k.tar", Member::Symlink("l.tar")),
                ("manifest.json", Member::File(plain.as_bytes())),
            ],
            "does not contain l.tar",
        ),
    ];
    for (what, members, why) in cases {
        let error = there.load(&tar(&members)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
    for (what, bytes) in [
        ("no tar", &b"hello, this is no archive, not at all"[..]),
        ("half", &tar(&[l()])[..700]),
        ("broken gzip", &gzip(&tar(&[l()]))[..100]),
    ] {
        let error = there.load(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
    }
    assert!(there.store.images().list().unwrap().is_empty());
    there.store.collect().unwrap();
    assert_eq!(there.store.usage().unwrap().content, 0);
    assert_eq!(there.store.usage().unwrap().layers, 0);
}

#[test]
fn names_in_an_archive_are_keys_only() {
    let there = TestStore::new();
    let layer = layer_tar("x");
    let good = config(&[hash::sha256(&layer)]);
    let manifest = br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["./x/../l.tar"]}]"#;
    let archive = tar(&[
        ("../../../../escaped", Member::File(b"x")),
        ("/absolute", Member::File(b"x")),
        ("passwd", Member::Symlink("/etc/passwd")),
        ("up", Member::Symlink("../../..")),
        ("up/escaped", Member::File(b"x")),
        ("/c.json", Member::File(&good)),
        ("l.tar", Member::File(&layer)),
        ("manifest.json", Member::File(manifest)),
    ]);
    there.load(&archive).unwrap();
    let mut todo = vec![there.dir.path().to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert!(
                !["escaped", "absolute", "passwd", "up"].contains(&&name[..]),
                "{name}"
            );
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
        }
    }
}

#[test]
fn a_root_becomes_an_image() {
    let there = TestStore::new();
    let root = testkit::rootfs::busybox_tar();
    let mut config = ImageConfig::default();
    config.config.cmd = Some(vec!["sh".into()]);
    let image = import_root(&there.store, &mut &gzip(&root)[..], config, "by hand").unwrap();
    assert_eq!(image.layers(), [hash::sha256(&root)]);
    assert_eq!(image.config.os, "linux");
    assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["sh"]);
    assert_eq!(image.config.history[0].comment.as_deref(), Some("by hand"));
    assert_eq!(image.config.created, image.config.history[0].created);
    let error = import_root(
        &there.store,
        &mut &b"no tar"[..],
        ImageConfig::default(),
        "",
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// CVE-2021-41190, and sizes that nobody looked at: who reads by another rule would see another image.
#[test]
fn a_layout_has_one_reading() {
    let there = TestStore::new();
    let layer = layer_tar("read");
    let config = config(&[hash::sha256(&layer)]);
    let describe = |kind: &str, bytes: &[u8], size: usize| {
        let digest = hash::sha256(bytes);
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let tar_layer = "application/vnd.oci.image.layer.v1.tar";
    let load = |config_size, layer_size, manifest_size: usize, more: &str| {
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]{more}}}"#,
            describe(media_type::OCI_CONFIG, &config, config_size),
            describe(tar_layer, &layer, layer_size)
        );
        let size = manifest.len() + manifest_size;
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            describe(media_type::OCI_MANIFEST, manifest.as_bytes(), size)
        );
        let parts = [&layer[..], &config, manifest.as_bytes()]
            .map(|bytes| (format!("blobs/sha256/{}", hash::sha256(bytes).hex()), bytes));
        let mut members = vec![("index.json", Member::File(index.as_bytes()))];
        members.extend(parts.iter().map(|(n, b)| (&n[..], Member::File(b))));
        there.load(&tar(&members)).map_err(|e| e.to_string())
    };
    let (c, l) = (config.len(), layer.len());
    for (sizes, more, why) in [
        ((c + 1, l, 0), "", "its descriptor says"),
        ((c, l - 1, 0), "", "its descriptor says"),
        ((c, l, 1), "", "its descriptor says"),
        ((c, l, 0), r#","manifests":[]"#, "both layers and manifests"),
        ((c, l, 0), r#","layers":[]"#, "duplicate field"),
    ] {
        let error = load(sizes.0, sizes.1, sizes.2, more).unwrap_err();
        assert!(error.contains(why), "{sizes:?} {more}: {error}");
    }
    assert_eq!(load(c, l, 0, "").unwrap().len(), 1);
}
