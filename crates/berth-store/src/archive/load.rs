//! `load`: from an archive's members to images.

use std::io::Read;

use berth_spec::oci::image::{CONFIG_MAX, Descriptor, Index, MANIFEST_MAX, Manifest, media_type};
use berth_spec::{Digest, Reference};

use super::contents::{Contents, Member};
use super::{DOCKER_MANIFEST, IMAGE_NAME, LoadEvent, Loaded, ManifestItem, OCI_INDEX, REF_NAME};
use crate::images::parse_config;
use crate::layer::decompress;
use crate::platform::architecture;
use crate::{Error, Image, Lease, NewImage, Result, Store};

/// Images that an archive may bring, and names that an image may have.
const IMAGES_MAX: usize = 1000;
/// Indexes inside indexes.
const DEPTH_MAX: usize = 3;

/// Takes in the images of an archive, and points their names at them.
///
/// # Errors
/// `Invalid` where it is no such archive, or where a part is not what its digest says.
pub fn load(
    store: &Store,
    archive: &mut dyn Read,
    events: &mut dyn FnMut(LoadEvent),
) -> Result<Vec<Loaded>> {
    let lease = store.lease()?;
    let contents = Contents::read(store, &lease, &mut *decompress(archive)?, events)?;
    let loading = Loading {
        store,
        lease: &lease,
        contents: &contents,
    };
    let loaded = if let Some(member) = contents.named(DOCKER_MANIFEST) {
        let bytes = member.read(store, DOCKER_MANIFEST, MANIFEST_MAX)?;
        loading.docker(&bytes)?
    } else if let Some(member) = contents.named(OCI_INDEX) {
        let bytes = member.read(store, OCI_INDEX, MANIFEST_MAX)?;
        loading.layout(&bytes)?
    } else {
        return Err(Error::invalid(
            "invalid archive: does not contain a manifest.json",
        ));
    };
    for image in &loaded {
        for name in &image.names {
            store.images().tag(name, &image.image)?;
        }
        events(LoadEvent::Loaded(image.clone()));
    }
    Ok(loaded)
}

struct Loading<'a> {
    store: &'a Store,
    lease: &'a Lease,
    contents: &'a Contents,
}

impl Loading<'_> {
    /// By Docker's `manifest.json`.
    fn docker(&self, bytes: &[u8]) -> Result<Vec<Loaded>> {
        let items: Vec<ManifestItem> = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid(format!("invalid {DOCKER_MANIFEST}: {e}")))?;
        bounded(items.len(), "images")?;
        items.iter().map(|item| self.docker_image(item)).collect()
    }

    fn docker_image(&self, item: &ManifestItem) -> Result<Loaded> {
        let tags = item.repo_tags.as_deref().unwrap_or_default();
        bounded(tags.len(), "names of an image")?;
        let names = tags
            .iter()
            .map(|tag| match tag.parse::<Reference>() {
                Ok(name) if name.tag().is_some() && name.digest().is_none() => Ok(name),
                _ => Err(Error::invalid(format!("invalid tag {tag:?}"))),
            })
            .collect::<Result<_>>()?;
        let config = self
            .member(&item.config)?
            .read(self.store, &item.config, CONFIG_MAX)?;
        let wanted = parse_config(&config)?.rootfs.diff_ids;
        let mut layers = Vec::new();
        for (at, name) in item.layers.iter().flatten().enumerate() {
            let layer = match self.contents.named(name) {
                Some(member) => member.layer(name)?.clone(),
                None => self.left_out(wanted.get(at), name)?,
            };
            layers.push(layer);
        }
        let image = self.add(config, None, &layers)?;
        Ok(Loaded {
            image: image.id,
            names,
        })
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.contents.named(name).ok_or_else(|| lacks(name))
    }

    /// A layer that the archive does not bring, which is fine where it is here: who sends from engine
    /// to engine leaves out what the other side has.
    fn left_out(&self, diff_id: Option<&Digest>, name: &str) -> Result<Digest> {
        let named_so =
            |d: &&Digest| name == format!("blobs/{}/{}", d.algorithm().as_str(), d.hex());
        let Some(diff_id) = diff_id.filter(named_so) else {
            return Err(lacks(name));
        };
        self.lease.hold_layer(diff_id);
        match self.store.layers().get(diff_id)? {
            Some(layer) => Ok(layer.diff_id),
            None => Err(lacks(name)),
        }
    }

    /// By the `index.json` of an OCI layout.
    fn layout(&self, bytes: &[u8]) -> Result<Vec<Loaded>> {
        let index = parse_index(bytes, OCI_INDEX)?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for descriptor in &index.manifests {
            let Some(image) = self.layout_image(descriptor, 0)? else {
                continue;
            };
            let names = names(descriptor);
            match loaded.iter_mut().find(|l| l.image == image.id) {
                Some(same) => same.names.extend(names),
                None => loaded.push(Loaded {
                    image: image.id,
                    names,
                }),
            }
        }
        if loaded.is_empty() {
            return Err(Error::invalid(format!(
                "invalid archive: it has no image for linux/{}",
                architecture()
            )));
        }
        Ok(loaded)
    }

    /// The image of a manifest, or of an index's entry for this machine; nothing for what is no
    /// image (attestations).
    fn layout_image(&self, descriptor: &Descriptor, depth: usize) -> Result<Option<Image>> {
        let Descriptor { digest, .. } = descriptor;
        let Some(member) = self.contents.described(descriptor)? else {
            return Err(Error::invalid(format!(
                "invalid archive: it does not contain {digest}"
            )));
        };
        let bytes = member.read(self.store, digest.as_str(), MANIFEST_MAX)?;
        if media_type::is_index(&descriptor.media_type) {
            if depth >= DEPTH_MAX {
                return Err(Error::invalid(format!("{digest}: indexes nested too deep")));
            }
            one_shape(&bytes, digest)?;
            let index = parse_index(&bytes, digest.as_str())?;
            return match choose(&index) {
                Some(chosen) => self.layout_image(chosen, depth + 1),
                None => Ok(None),
            };
        }
        one_shape(&bytes, digest)?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(format!("invalid manifest {digest}: {e}")))?;
        if manifest.artifact_type.is_some() || manifest.config.media_type == media_type::OCI_EMPTY {
            return Ok(None);
        }
        bounded(manifest.layers.len(), "layers")?;
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            match self.contents.described(layer)? {
                Some(Member::Layer(diff_id)) => layers.push(diff_id.clone()),
                // What stands for a layer but is none makes the whole no image.
                Some(Member::Blob { .. }) => return Ok(None),
                _ => {
                    return Err(Error::invalid(format!(
                        "invalid archive: it does not contain the layer {}",
                        layer.digest
                    )));
                }
            }
        }
        let described = self.contents.described(&manifest.config)?;
        let config = &manifest.config.digest;
        let config = match described {
            Some(member) => member.read(self.store, config.as_str(), CONFIG_MAX)?,
            None => {
                return Err(Error::invalid(format!(
                    "invalid archive: it does not contain the config {config}"
                )));
            }
        };
        let kept = (descriptor.media_type.clone(), bytes);
        self.add(config, Some(kept), &layers).map(Some)
    }

    fn add(
        &self,
        config: Vec<u8>,
        manifest: Option<(String, Vec<u8>)>,
        layers: &[Digest],
    ) -> Result<Image> {
        let wanted = parse_config(&config)?.rootfs.diff_ids;
        if wanted.len() != layers.len() {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                wanted.len(),
                layers.len()
            )));
        }
        for (at, (wanted, found)) in wanted.iter().zip(layers).enumerate() {
            if wanted != found {
                return Err(Error::invalid(format!(
                    "invalid diffID for layer {at}: expected {wanted:?}, got {found:?}"
                )));
            }
        }
        let image = NewImage {
            config,
            manifest,
            parent: None,
        };
        self.store.images().add(self.lease, image)
    }
}

fn lacks(name: &str) -> Error {
    Error::invalid(format!("invalid archive: it does not contain {name}"))
}

fn bounded(count: usize, what: &str) -> Result<()> {
    if count > IMAGES_MAX {
        return Err(Error::invalid(format!(
            "invalid archive: more than {IMAGES_MAX} {what}"
        )));
    }
    Ok(())
}

/// Refuses a document that is a manifest and an index at once (CVE-2021-41190).
fn one_shape(bytes: &[u8], digest: &Digest) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Shape {
        layers: Option<serde::de::IgnoredAny>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    match serde_json::from_slice(bytes) {
        Ok(Shape {
            layers: Some(_),
            manifests: Some(_),
        }) => Err(Error::invalid(format!(
            "invalid manifest {digest}: it has both layers and manifests"
        ))),
        // Whether it is one at all is seen next.
        _ => Ok(()),
    }
}

fn parse_index(bytes: &[u8], what: &str) -> Result<Index> {
    let index: Index = serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("invalid index {what}: {e}")))?;
    bounded(index.manifests.len(), "manifests in an index")?;
    Ok(index)
}

/// The entry for this machine; one that does not say what it is for comes last.
fn choose(index: &Index) -> Option<&Descriptor> {
    let ours = |d: &&Descriptor| {
        d.platform
            .as_ref()
            .is_some_and(|p| p.os == "linux" && p.architecture == architecture())
    };
    index
        .manifests
        .iter()
        .find(ours)
        .or_else(|| index.manifests.iter().find(|d| d.platform.is_none()))
}

/// The names that a descriptor's annotations give; texts that are no names give none.
fn names(descriptor: &Descriptor) -> Vec<Reference> {
    let annotation = |key: &str| descriptor.annotations.as_ref()?.get(key);
    let text = annotation(IMAGE_NAME)
        // A lone tag names nothing: which repository would it be in?
        .or_else(|| annotation(REF_NAME).filter(|n| n.contains(['/', ':'])));
    text.and_then(|text| text.parse::<Reference>().ok())
        .map(Reference::or_latest)
        .filter(|name| name.digest().is_none())
        .into_iter()
        .collect()
}
