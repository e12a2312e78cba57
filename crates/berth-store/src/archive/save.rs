//! `save`: from images to an archive. Equal images give equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use berth_spec::Digest;
use berth_spec::oci::image::{CONFIG_MAX, Descriptor, Index, Manifest, Platform, media_type};
use serde::Serialize;
use tar_core::{EntryBuilder, EntryType};

use super::{DOCKER_MANIFEST, IMAGE_NAME, ManifestItem, OCI_INDEX, REF_NAME, SaveItem};
use crate::hash::sha256;
use crate::{Error, Image, Lease, Result, Store};

/// Writes the images with their names as one archive.
pub fn save(store: &Store, items: &[SaveItem], out: &mut dyn Write) -> Result<()> {
    let lease = store.lease()?;
    let mut saving = Saving::new(store, &lease);
    for item in items {
        saving.add(item)?;
    }
    saving.write(out)
}

/// Where the bytes of a member come from.
enum Source {
    Bytes(Vec<u8>),
    Layer(Digest),
}

struct Saving<'a> {
    store: &'a Store,
    lease: &'a Lease,
    /// By path below the archive.
    blobs: BTreeMap<String, Source>,
    manifests: Vec<Descriptor>,
    items: Vec<ManifestItem>,
    /// Repository → tag → the ID that readers of old look for.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl<'a> Saving<'a> {
    fn new(store: &'a Store, lease: &'a Lease) -> Self {
        Self {
            store,
            lease,
            blobs: BTreeMap::new(),
            manifests: Vec::new(),
            items: Vec::new(),
            repositories: BTreeMap::new(),
        }
    }

    fn add(&mut self, item: &SaveItem) -> Result<()> {
        let image = self.store.images().get(&item.image)?;
        self.lease.hold_blob(&image.id);
        let config = self.store.content().read(&image.id, CONFIG_MAX)?;
        let layers = self.layers(&image)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(
                media_type::OCI_CONFIG,
                image.id.clone(),
                config.len() as u64,
            ),
            layers: layers.clone(),
            subject: None,
            annotations: None,
        };
        let bytes = json(&manifest)?;
        let digest = sha256(&bytes);
        let mut descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), bytes.len() as u64);
        descriptor.platform = Some(Platform {
            architecture: image.config.architecture.clone(),
            os: image.config.os.clone(),
            variant: image.config.variant.clone(),
            ..Platform::default()
        });
        self.blobs.insert(path(&digest), Source::Bytes(bytes));
        self.blobs.insert(path(&image.id), Source::Bytes(config));
        self.name(item, &image, descriptor);
        self.items.push(ManifestItem {
            config: path(&image.id),
            repo_tags: (!item.names.is_empty())
                .then(|| item.names.iter().map(|n| n.familiar()).collect()),
            layers: Some(layers.iter().map(|l| path(&l.digest)).collect()),
            layer_sources: Some(layers.into_iter().map(|l| (l.digest.clone(), l)).collect()),
        });
        Ok(())
    }

    /// The descriptors of the image's layers as plain tars.
    fn layers(&mut self, image: &Image) -> Result<Vec<Descriptor>> {
        let mut layers = Vec::new();
        for diff_id in image.layers() {
            self.lease.hold_layer(diff_id);
            let Some(layer) = self.store.layers().get(diff_id)? else {
                return Err(Error::not_found(format!("no such layer: {diff_id}")));
            };
            layers.push(Descriptor::new(
                media_type::OCI_LAYER,
                diff_id.clone(),
                layer.size,
            ));
            self.blobs
                .insert(path(diff_id), Source::Layer(diff_id.clone()));
        }
        Ok(layers)
    }

    fn name(&mut self, item: &SaveItem, image: &Image, descriptor: Descriptor) {
        if item.names.is_empty() {
            self.manifests.push(descriptor);
            return;
        }
        for name in &item.names {
            let tag = name.tag().unwrap_or_default().to_owned();
            let mut named = descriptor.clone();
            named.annotations = Some(BTreeMap::from([
                (IMAGE_NAME.to_owned(), name.to_string()),
                (REF_NAME.to_owned(), tag.clone()),
            ]));
            self.manifests.push(named);
            let top = image.layers().last().unwrap_or(&image.id);
            self.repositories
                .entry(name.familiar_name())
                .or_default()
                .insert(tag, top.hex().to_owned());
        }
    }

    fn write(self, out: &mut dyn Write) -> Result<()> {
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            artifact_type: None,
            manifests: self.manifests,
            subject: None,
            annotations: None,
        };
        let mut tail = BTreeMap::from([
            (OCI_INDEX, json(&index)?),
            (DOCKER_MANIFEST, json(&self.items)?),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ]);
        if !self.repositories.is_empty() {
            tail.insert("repositories", json(&self.repositories)?);
        }
        let mut tar = TarWriter(out);
        let dirs: BTreeSet<&str> = self
            .blobs
            .keys()
            .filter_map(|path| path.rsplit_once('/').map(|(dir, _)| dir))
            .collect();
        tar.directory("blobs/")?;
        for dir in dirs {
            tar.directory(&format!("{dir}/"))?;
        }
        for (path, source) in &self.blobs {
            match source {
                Source::Bytes(bytes) => tar.file(path, bytes.len() as u64, &mut &bytes[..])?,
                Source::Layer(diff_id) => {
                    let mut layer = self.store.layers().open_tar(diff_id)?;
                    let len = layer.len();
                    tar.file(path, len, &mut layer)?;
                }
            }
        }
        for (path, bytes) in &tail {
            tar.file(path, bytes.len() as u64, &mut &bytes[..])?;
        }
        tar.finish()
    }
}

/// Where a blob lies in an OCI layout.
fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::io("cannot write the archive", e))
}

/// Writes members that belong to root and are as old as time.
struct TarWriter<'a>(&'a mut dyn Write);

impl TarWriter<'_> {
    fn directory(&mut self, path: &str) -> Result<()> {
        self.header(path, EntryType::Directory, 0o755, 0)
    }

    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        self.header(path, EntryType::Regular, 0o644, size)?;
        let copied = io::copy(&mut content.take(size), &mut self.0).map_err(broken)?;
        if copied != size {
            return Err(Error::new(
                crate::ErrorKind::Internal,
                format!("{path} has {copied} bytes instead of {size}"),
            ));
        }
        let padding = size.next_multiple_of(512) - size;
        self.0
            .write_all(&[0; 512][..usize::try_from(padding).unwrap_or(0)])
            .map_err(broken)
    }

    fn header(&mut self, path: &str, kind: EntryType, mode: u32, size: u64) -> Result<()> {
        let mut entry = EntryBuilder::new_ustar();
        let make = |entry: &mut EntryBuilder| -> tar_core::Result<Vec<u8>> {
            entry.path(path).entry_type(kind);
            entry.mode(mode)?.uid(0)?.gid(0)?.size(size)?.mtime(0)?;
            Ok(entry.finish_bytes())
        };
        let bytes = make(&mut entry)
            .map_err(|e| Error::new(crate::ErrorKind::Internal, format!("{path}: {e}")))?;
        self.0.write_all(&bytes).map_err(broken)
    }

    fn finish(self) -> Result<()> {
        self.0.write_all(&[0; 1024]).map_err(broken)?;
        self.0.flush().map_err(broken)
    }
}

fn broken(error: io::Error) -> Error {
    Error::io("cannot write the archive", error)
}
