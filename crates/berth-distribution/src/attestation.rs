//! What a registry has to say about an image beside it: provenance, lists of what is in it (SBOM),
//! signatures. Found, not judged.
//!
//! Three ways are in use: BuildKit's entries in the image's own index, referrers, and cosign's tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_spec::oci::image::{Descriptor, Index, Manifest, Platform};
use berth_spec::{Digest, Reference};

use crate::client::Shared;
use crate::manifest::{self, Document};
use crate::registry::Registry;
use crate::{Credentials, Result, signature};

/// Images of an index whose referrers are asked for, and attestations that are listed.
const IMAGES_MAX: usize = 32;
const FOUND_MAX: usize = 500;

/// One statement about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// `provenance`, `sbom`, `signature`, or `other`.
    pub kind: &'static str,
    /// The type of what is stated: an in-toto predicate, or the type of an artifact.
    pub type_name: String,
    /// The image that it is about: an index or a manifest.
    pub subject: Digest,
    /// `os/arch[/variant]` of that, where it is known.
    pub platform: Option<String>,
    /// What holds it, in the same repository.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// What a type is about.
fn kind(type_name: &str) -> &'static str {
    let type_name = type_name.to_ascii_lowercase();
    let holds = |words: &[&str]| words.iter().any(|word| type_name.contains(word));
    if holds(&["provenance"]) {
        "provenance"
    } else if holds(&["spdx", "cyclonedx", "syft", "sbom"]) {
        "sbom"
    } else if holds(&[
        "cosign/sign",
        "simplesigning",
        "sigstore.bundle",
        "notary.signature",
    ]) {
        "signature"
    } else {
        "other"
    }
}

/// See [`crate::Client::attestations`].
pub(crate) async fn list(
    client: &Arc<Shared>,
    reference: &Reference,
    auth: Option<&Credentials>,
) -> Result<Vec<Attestation>> {
    let reference = reference.clone().or_latest();
    let registry = Registry::resolving(client, &reference, auth).await?;
    let name = registry.name(&reference);
    let target = manifest::target(name);
    let named = manifest::fetch(&registry, name, &target, None).await?;
    let mut listing = Listing {
        registry: &registry,
        name,
        found: Vec::new(),
    };
    let mut subjects = vec![(named.digest.clone(), None)];
    if let Document::Index(index) = &named.document {
        listing.of_index(index).await?;
        for entry in &index.manifests {
            let platform = entry.platform.as_ref().map(shown);
            if !is_statement(entry) && subjects.len() <= IMAGES_MAX {
                subjects.push((entry.digest.clone(), platform));
            }
        }
    }
    for (subject, platform) in subjects {
        listing.referrers(&subject, platform.as_deref()).await?;
        listing.tags(&subject, platform.as_deref()).await?;
    }
    Ok(listing.found)
}

fn shown(platform: &Platform) -> String {
    let variant = platform.variant.iter().map(String::as_str);
    [&platform.os[..], &platform.architecture]
        .into_iter()
        .chain(variant)
        .collect::<Vec<_>>()
        .join("/")
}

/// Whether an entry of an index is BuildKit's statement about another.
fn is_statement(entry: &Descriptor) -> bool {
    annotation(&entry.annotations, "vnd.docker.reference.type") == Some("attestation-manifest")
}

fn annotation<'a>(annotations: &'a Option<BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    annotations.as_ref()?.get(key).map(String::as_str)
}

struct Listing<'a> {
    registry: &'a Registry,
    name: &'a Reference,
    found: Vec<Attestation>,
}

impl Listing<'_> {
    fn add(&mut self, type_name: &str, subject: &Digest, platform: Option<&str>, of: &Descriptor) {
        let known = self.found.iter().any(|found| found.digest == of.digest);
        if known || self.found.len() >= FOUND_MAX {
            return;
        }
        self.found.push(Attestation {
            kind: kind(type_name),
            type_name: type_name.to_owned(),
            subject: subject.clone(),
            platform: platform.map(str::to_owned),
            digest: of.digest.clone(),
            size: of.size,
        });
    }

    /// In-toto statements in a manifest, one a layer.
    fn statements(&mut self, manifest: &Manifest, subject: &Digest, platform: Option<&str>) {
        for layer in &manifest.layers {
            let predicate = ["in-toto.io/predicate-type", "predicateType"]
                .into_iter()
                .find_map(|key| annotation(&layer.annotations, key));
            let type_name = predicate.unwrap_or(&layer.media_type).to_owned();
            self.add(&type_name, subject, platform, layer);
        }
    }

    /// BuildKit's way: entries that say which other entry they are about.
    async fn of_index(&mut self, index: &Index) -> Result<()> {
        for entry in index.manifests.iter().filter(|e| is_statement(e)) {
            let about = annotation(&entry.annotations, "vnd.docker.reference.digest");
            let about: Option<Digest> = about.and_then(|text| text.parse().ok());
            let subject = about.unwrap_or_else(|| entry.digest.clone());
            let image = index.manifests.iter().find(|e| e.digest == subject);
            let platform = image.and_then(|e| e.platform.as_ref()).map(shown);
            let target = entry.digest.as_str();
            let expect = Some((&entry.digest, entry.size));
            let fetched = manifest::fetch(self.registry, self.name, target, expect).await?;
            if let Document::Manifest(manifest) = &fetched.document {
                self.statements(manifest, &subject, platform.as_deref());
            }
        }
        Ok(())
    }

    async fn referrers(&mut self, subject: &Digest, platform: Option<&str>) -> Result<()> {
        for entry in signature::referrers(self.registry, self.name, subject).await? {
            let predicate = [
                "dev.sigstore.bundle.predicateType",
                "in-toto.io/predicate-type",
            ]
            .into_iter()
            .find_map(|key| annotation(&entry.annotations, key));
            let type_name = predicate.or(entry.artifact_type.as_deref());
            let type_name = type_name.unwrap_or(&entry.media_type).to_owned();
            self.add(&type_name, subject, platform, &entry);
        }
        Ok(())
    }

    /// Cosign's way: `sha256-<hex>` with what it is behind it.
    async fn tags(&mut self, subject: &Digest, platform: Option<&str>) -> Result<()> {
        for suffix in [".sig", ".att", ".sbom"] {
            let found = signature::beside(self.registry, self.name, subject, suffix).await?;
            if let Some(manifest) = found {
                self.statements(&manifest, subject, platform);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_kinds() {
        for (type_name, expected) in [
            ("https://slsa.dev/provenance/v0.2", "provenance"),
            ("https://spdx.dev/Document", "sbom"),
            ("https://cyclonedx.org/bom", "sbom"),
            ("https://sigstore.dev/cosign/sign/v1", "signature"),
            (
                "application/vnd.dev.cosign.simplesigning.v1+json",
                "signature",
            ),
            ("application/x", "other"),
        ] {
            assert_eq!(kind(type_name), expected, "{type_name}");
        }
    }
}
