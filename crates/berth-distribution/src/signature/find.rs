//! Where signatures are: cosign's tags, and referrers (distribution-spec 1.1, "Listing Referrers").

use berth_spec::oci::image::{Descriptor, Index, MANIFEST_MAX, Manifest};
use berth_spec::{Digest, Reference};
use berth_store::hash::digest_with;
use reqwest::{Method, StatusCode};

use super::statement::{BUNDLES, SIMPLE, SIMPLE_SIGNATURE};
use crate::failure::{Failure, SMALL_MAX, read_capped};
use crate::manifest::{self, pull_scope};
use crate::registry::Registry;
use crate::{Error, ErrorKind, Result};

/// Signatures of one image that are looked at.
const SIGNATURES_MAX: usize = 50;

/// A payload and what is said to be its signature, base64.
pub(super) struct Simple {
    pub(super) payload: Vec<u8>,
    pub(super) signature: String,
}

/// `sha256-<hex>`, with what cosign puts behind it.
pub(super) fn tag(digest: &Digest, suffix: &str) -> String {
    format!("{}-{}{suffix}", digest.algorithm().as_str(), digest.hex())
}

/// A document of at most [`MANIFEST_MAX`] bytes; nothing where it is not there.
async fn document(
    registry: &Registry,
    reference: &Reference,
    path: &str,
) -> Result<Option<Vec<u8>>> {
    let response = registry
        .send(Method::GET, path, &pull_scope(reference), |r| {
            r.header("accept", manifest::ACCEPT)
        })
        .await?;
    match response.status() {
        s if s.is_success() => read_capped(response, MANIFEST_MAX).await.map(Some),
        StatusCode::NOT_FOUND => Ok(None),
        _ => Err(Failure::read(response).await.into_error("")),
    }
}

pub(super) async fn manifest_at(
    registry: &Registry,
    reference: &Reference,
    target: &str,
) -> Result<Option<Vec<u8>>> {
    let path = format!("/v2/{}/manifests/{target}", reference.path());
    let found = document(registry, reference, &path).await?;
    if let (Some(bytes), Ok(digest)) = (&found, target.parse::<Digest>()) {
        check(&digest, bytes)?;
    }
    Ok(found)
}

fn check(digest: &Digest, bytes: &[u8]) -> Result<()> {
    match digest_with(digest.algorithm(), bytes) == *digest {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Invalid,
            format!("the registry sent other bytes than those of {digest}"),
        )),
    }
}

async fn small_blob(
    registry: &Registry,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<Vec<u8>> {
    let path = format!("/v2/{}/blobs/{}", reference.path(), descriptor.digest);
    let response = registry
        .send(Method::GET, &path, &pull_scope(reference), |r| r)
        .await?;
    if !response.status().is_success() {
        let failure = Failure::read(response).await;
        return Err(failure.into_error(&format!("blob {}", descriptor.digest)));
    }
    let bytes = read_capped(response, SMALL_MAX).await?;
    check(&descriptor.digest, &bytes)?;
    Ok(bytes)
}

fn invalid(what: &str, e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Invalid, format!("{what} is damaged: {e}"))
}

/// The manifest under cosign's tag for `digest` with this suffix.
pub(crate) async fn beside(
    registry: &Registry,
    reference: &Reference,
    digest: &Digest,
    suffix: &str,
) -> Result<Option<Manifest>> {
    let tag = tag(digest, suffix);
    let Some(bytes) = manifest_at(registry, reference, &tag).await? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| invalid(&tag, e))
}

/// Payloads under cosign's tag.
pub(super) async fn simple(
    registry: &Registry,
    reference: &Reference,
    digest: &Digest,
) -> Result<Vec<Simple>> {
    let Some(manifest) = beside(registry, reference, digest, ".sig").await? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for layer in manifest.layers.iter().take(SIGNATURES_MAX) {
        let annotations = layer.annotations.as_ref();
        let signature = annotations.and_then(|a| a.get(SIMPLE_SIGNATURE));
        if let Some(signature) = signature.filter(|_| layer.media_type == SIMPLE) {
            found.push(Simple {
                payload: small_blob(registry, reference, layer).await?,
                signature: signature.clone(),
            });
        }
    }
    Ok(found)
}

/// What refers to `digest`: by the registry's own list, or by the tag that stands in for it.
pub(crate) async fn referrers(
    registry: &Registry,
    reference: &Reference,
    digest: &Digest,
) -> Result<Vec<Descriptor>> {
    let path = format!("/v2/{}/referrers/{digest}", reference.path());
    let mut list = document(registry, reference, &path).await?;
    if list.is_none() {
        list = manifest_at(registry, reference, &tag(digest, "")).await?;
    }
    let Some(bytes) = list else {
        return Ok(Vec::new());
    };
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|e| invalid("the list of referrers", e))?;
    Ok(index.manifests)
}

/// Bundles that refer to `digest`.
pub(super) async fn bundles(
    registry: &Registry,
    reference: &Reference,
    digest: &Digest,
) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let all = referrers(registry, reference, digest).await?;
    let is_bundle = |d: &&Descriptor| {
        let kind = d.artifact_type.as_deref().unwrap_or(BUNDLES);
        kind.starts_with(BUNDLES)
    };
    for descriptor in all.iter().filter(is_bundle).take(SIGNATURES_MAX) {
        let target = descriptor.digest.as_str();
        let Some(bytes) = manifest_at(registry, reference, target).await? else {
            continue;
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| invalid(target, e))?;
        let layer = manifest
            .layers
            .iter()
            .find(|layer| layer.media_type.starts_with(BUNDLES));
        if let Some(layer) = layer {
            found.push(small_blob(registry, reference, layer).await?);
        }
    }
    Ok(found)
}
