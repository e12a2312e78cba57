//! The manifest of a push: the recorded one where it still fits, else a new one of the same family.

use berth_spec::Digest;
use berth_spec::oci::image::{Descriptor, MANIFEST_MAX, Manifest, media_type};
use berth_store::{Image, Store};

use crate::{Error, ErrorKind, Result};

/// A manifest to send.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    /// What it points at.
    pub(super) blobs: Vec<Digest>,
}

/// The manifest that the image came with, if it is still here and fits the image.
fn recorded(store: &Store, image: &Image) -> Result<Option<(String, Vec<u8>, Manifest)>> {
    let Some(descriptor) = &image.manifest else {
        return Ok(None);
    };
    let bytes = store.content().read(&descriptor.digest, MANIFEST_MAX)?;
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
        return Ok(None);
    };
    let fits = manifest.config.digest == image.id && manifest.layers.len() == image.layers().len();
    Ok(fits.then(|| (descriptor.media_type.clone(), bytes, manifest)))
}

/// What the image's layers were when it came, lowest first; empty where that is not known.
pub(super) fn recorded_layers(store: &Store, image: &Image) -> Result<Vec<Descriptor>> {
    Ok(recorded(store, image)?.map_or(Vec::new(), |(_, _, manifest)| manifest.layers))
}

/// The manifest for an image whose layers went as `layers`.
pub(super) fn choose(
    store: &Store,
    image: &Image,
    config: Descriptor,
    layers: Vec<Descriptor>,
) -> Result<Document> {
    let mut blobs: Vec<Digest> = layers.iter().map(|l| l.digest.clone()).collect();
    blobs.push(config.digest.clone());
    let recorded = recorded(store, image)?;
    let mut family = media_type::DOCKER_MANIFEST.to_owned();
    if let Some((media_type, bytes, manifest)) = recorded {
        let same = manifest
            .layers
            .iter()
            .map(|l| &l.digest)
            .eq(layers.iter().map(|l| &l.digest));
        if same {
            return Ok(Document {
                media_type,
                bytes,
                blobs,
            });
        }
        family = media_type;
    }
    // Docker's family has no name for zstd.
    if layers.iter().any(|l| l.media_type.contains("zstd")) {
        family = media_type::OCI_MANIFEST.to_owned();
    }
    let oci = family == media_type::OCI_MANIFEST;
    let config = Descriptor {
        media_type: if oci {
            media_type::OCI_CONFIG
        } else {
            media_type::DOCKER_CONFIG
        }
        .to_owned(),
        ..config
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(family.clone()),
        artifact_type: None,
        config,
        layers: layers.into_iter().map(|l| in_family(l, oci)).collect(),
        subject: None,
        annotations: None,
    };
    let bytes = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write a manifest: {e}")))?;
    Ok(Document {
        media_type: family,
        bytes,
        blobs,
    })
}

/// The same layer under the media type that its family uses.
fn in_family(layer: Descriptor, oci: bool) -> Descriptor {
    let compressed = |what: &str| layer.media_type.contains(what);
    let media_type = match (oci, compressed("gzip"), compressed("zstd")) {
        (true, true, _) => media_type::OCI_LAYER_GZIP,
        (true, _, true) => media_type::OCI_LAYER_ZSTD,
        (true, ..) => media_type::OCI_LAYER,
        (false, true, _) => media_type::DOCKER_LAYER_GZIP,
        (false, ..) => media_type::DOCKER_LAYER,
    };
    Descriptor::new(media_type, layer.digest, layer.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_take_the_name_of_their_family() {
        let name = |media_type: &str, oci| {
            let digest = berth_store::hash::sha256(b"x");
            in_family(Descriptor::new(media_type, digest, 1), oci).media_type
        };
        assert_eq!(
            name(media_type::DOCKER_LAYER_GZIP, true),
            media_type::OCI_LAYER_GZIP
        );
        assert_eq!(
            name(media_type::OCI_LAYER_GZIP, false),
            media_type::DOCKER_LAYER_GZIP
        );
        assert_eq!(
            name(media_type::OCI_LAYER_ZSTD, true),
            media_type::OCI_LAYER_ZSTD
        );
        assert_eq!(name(media_type::OCI_LAYER, false), media_type::DOCKER_LAYER);
        assert_eq!(name(media_type::DOCKER_LAYER, true), media_type::OCI_LAYER);
    }
}
