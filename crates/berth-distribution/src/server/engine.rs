//! An engine's own images, served as they lie in its store: nothing is copied, and nothing is written
//! there.
//!
//! An image that came from a registry is served as it came, where its blobs are still kept. For others a
//! manifest is made whose layers are the uncompressed tars that the engine keeps: the digest of such
//! a layer is its diff ID. The manifest is the same each time, so its digest is as good as any.

use std::fs::File;
use std::path::Path;

use berth_spec::oci::image::{CONFIG_MAX, Descriptor, MANIFEST_MAX, Manifest as Image, media_type};
use berth_spec::{Digest, Reference};
use berth_store::hash::sha256;
use berth_store::onlooker::{Onlooker, Seen};

use super::document;
use super::fault::{Fault, Reply};
use super::name;
use super::record::Manifest;
use super::route::Target;

/// The images of an engine.
pub(crate) struct EngineImages(Onlooker);

/// Bytes of a blob, and where they are.
type Blob = Option<(File, u64)>;

fn failed(error: berth_store::Error) -> Fault {
    Fault::internal("cannot look into the engine's store", error)
}

impl EngineImages {
    /// Those of the engine whose data root is `root`.
    pub(crate) fn open(root: &Path) -> Reply<Self> {
        Onlooker::open(root).map(Self).map_err(failed)
    }

    /// The repositories that its images' names make, sorted.
    pub(crate) fn repositories(&self) -> Reply<Vec<String>> {
        let tags = self.0.tags().map_err(failed)?;
        let mut names: Vec<_> = tags.iter().filter_map(repository_of).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The names of its images in `repository`, sorted.
    fn references(&self, repository: &str) -> Reply<Vec<Reference>> {
        let Ok(wanted) = repository.parse::<Reference>() else {
            return Ok(Vec::new());
        };
        let all = self.0.tags().map_err(failed)?;
        Ok(all
            .into_iter()
            .filter(|r| r.domain() == wanted.domain() && r.path() == wanted.path())
            .collect())
    }

    /// The tags of `repository`, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Reply<Vec<String>> {
        let references = self.references(repository)?;
        Ok(references
            .iter()
            .filter_map(|r| r.tag().map(str::to_owned))
            .collect())
    }

    /// The manifest that `target` names.
    pub(crate) fn manifest(&self, repository: &str, target: &Target) -> Reply<Option<Manifest>> {
        for reference in self.references(repository)? {
            let manifest = match target {
                Target::Tag(tag) if reference.tag() == Some(tag) => self.of(&reference)?,
                Target::Tag(_) => None,
                Target::Digest(digest) => self.of(&reference)?.filter(|m| m.digest == *digest),
            };
            if manifest.is_some() {
                return Ok(manifest);
            }
        }
        Ok(None)
    }

    /// The blob `digest`, if an image of `repository` needs it.
    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Reply<Blob> {
        for reference in self.references(repository)? {
            let Some(manifest) = self.of(&reference)? else {
                continue;
            };
            let document = document::parse(&manifest.bytes, Some(&manifest.media_type))?;
            if document.blobs.iter().any(|(d, _)| d == digest) {
                return match self.0.blob(digest).map_err(failed)? {
                    None => self.0.layer(digest).map_err(failed),
                    found => Ok(found),
                };
            }
        }
        Ok(None)
    }

    fn of(&self, reference: &Reference) -> Reply<Option<Manifest>> {
        let Some(seen) = self.0.image(reference).map_err(failed)? else {
            return Ok(None);
        };
        match self.as_it_came(&seen)? {
            None => self.made(&seen),
            came => Ok(came),
        }
    }

    /// The manifest that the image came with, if all that it needs is still kept.
    fn as_it_came(&self, seen: &Seen) -> Reply<Option<Manifest>> {
        let Some(descriptor) = &seen.manifest else {
            return Ok(None);
        };
        let Some(bytes) = self.small(&descriptor.digest, MANIFEST_MAX)? else {
            return Ok(None);
        };
        let Ok(document) = document::parse(&bytes, Some(&descriptor.media_type)) else {
            return Ok(None);
        };
        for (digest, size) in &document.blobs {
            match self.0.blob(digest).map_err(failed)? {
                Some((_, found)) if found == *size => {}
                _ => return Ok(None),
            }
        }
        Ok(Some(Manifest {
            digest: descriptor.digest.clone(),
            media_type: descriptor.media_type.clone(),
            bytes: bytes.into(),
        }))
    }

    /// A manifest over the tars of the image's layers, which the engine keeps in whatever form it runs
    /// from. Nothing where one is gone, as in the middle of a removal.
    fn made(&self, seen: &Seen) -> Reply<Option<Manifest>> {
        let Some(config) = self.small(&seen.id, CONFIG_MAX)? else {
            return Ok(None);
        };
        let mut layers = Vec::new();
        for diff_id in &seen.layers {
            let Some((_, size)) = self.0.layer(diff_id).map_err(failed)? else {
                tracing::warn!(image = %seen.id, layer = %diff_id, "an image is not served: the tar of one of its layers is gone");
                return Ok(None);
            };
            layers.push(Descriptor::new(
                media_type::OCI_LAYER,
                diff_id.clone(),
                size,
            ));
        }
        let size = config.len() as u64;
        let image = Image {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: Descriptor::new(media_type::OCI_CONFIG, seen.id.clone(), size),
            layers,
            subject: None,
            annotations: None,
        };
        let bytes = serde_json::to_vec(&image)
            .map_err(|e| Fault::internal("cannot write a manifest", e))?;
        Ok(Some(Manifest {
            digest: sha256(&bytes),
            media_type: media_type::OCI_MANIFEST.into(),
            bytes: bytes.into(),
        }))
    }

    /// A small blob whole, if it is kept.
    fn small(&self, digest: &Digest, most: u64) -> Reply<Option<Vec<u8>>> {
        use std::io::Read;
        let Some((file, size)) = self.0.blob(digest).map_err(failed)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(most)
            .read_to_end(&mut bytes)
            .map_err(|e| Fault::io(format_args!("cannot read blob {digest}"), e))?;
        Ok((bytes.len() as u64 == size).then_some(bytes))
    }
}

/// What the repository of an image is called here: as the user would say it, if that is a name.
fn repository_of(reference: &Reference) -> Option<String> {
    let name = reference.familiar_name();
    name::is_repository(&name).then_some(name)
}
