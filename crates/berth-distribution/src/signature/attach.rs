//! Putting a signature beside its image.

use std::collections::BTreeMap;

use berth_spec::oci::image::{Descriptor, Index, Manifest, media_type};
use berth_spec::{Digest, Reference};
use berth_store::hash::sha256;
use data_encoding::BASE64;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::find::{manifest_at, tag};
use super::statement::{BUNDLE, PREDICATE, SIMPLE, SIMPLE_SIGNATURE};
use crate::failure::Failure;
use crate::push::{closing, location};
use crate::registry::Registry;
use crate::{Error, ErrorKind, Result};

/// A signature that was made elsewhere: private keys do not come here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewSignature {
    /// [`super::simple_payload`] and the signature over it.
    Simple {
        payload: Vec<u8>,
        signature: Vec<u8>,
    },
    /// What [`super::make_bundle`] gives.
    Bundle(Vec<u8>),
}

/// Sends it. `digest` is what it signs.
pub(crate) async fn attach(
    registry: &Registry,
    reference: &Reference,
    digest: &Digest,
    new: &NewSignature,
) -> Result<()> {
    let to = Target {
        registry,
        reference,
    };
    match new {
        NewSignature::Simple { payload, signature } => {
            to.add_simple(digest, payload, signature).await
        }
        NewSignature::Bundle(bundle) => to.add_bundle(digest, bundle).await,
    }
}

struct Target<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
}

fn json_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write a manifest: {e}")))
}

impl Target<'_> {
    fn scope(&self) -> String {
        format!("repository:{}:pull,push", self.reference.path())
    }

    /// One more layer of the manifest under cosign's tag.
    async fn add_simple(&self, digest: &Digest, payload: &[u8], signature: &[u8]) -> Result<()> {
        let tag = tag(digest, ".sig");
        let there = manifest_at(self.registry, self.reference, &tag).await?;
        let mut layers = match there {
            Some(bytes) => {
                let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| {
                    Error::new(ErrorKind::Invalid, format!("{tag} is damaged: {e}"))
                })?;
                manifest.layers
            }
            None => Vec::new(),
        };
        let mut layer = self.blob(SIMPLE, payload).await?;
        layer.annotations = Some(BTreeMap::from([(
            SIMPLE_SIGNATURE.to_owned(),
            BASE64.encode(signature),
        )]));
        layers.push(layer);
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
        let config = json!({
            "architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self
            .blob(media_type::OCI_CONFIG, config.to_string().as_bytes())
            .await?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: None,
        };
        self.put(&tag, media_type::OCI_MANIFEST, json_bytes(&manifest)?)
            .await
            .map(drop)
    }

    /// A referrer of the image. Where the registry keeps no list of them, the tag that stands in for it.
    async fn add_bundle(&self, digest: &Digest, bundle: &[u8]) -> Result<()> {
        let target = digest.to_string();
        let signed = manifest_at(self.registry, self.reference, &target).await?;
        let Some(signed) = signed else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{} has no {digest}", self.reference.familiar_name()),
            ));
        };
        let media_type = crate::manifest::parse(&signed, "")?.1;
        let annotations = BTreeMap::from([
            (
                "dev.sigstore.bundle.content".to_owned(),
                "dsse-envelope".to_owned(),
            ),
            (
                "dev.sigstore.bundle.predicateType".to_owned(),
                PREDICATE.to_owned(),
            ),
            (
                "org.opencontainers.image.created".to_owned(),
                jiff::Timestamp::now()
                    .strftime("%Y-%m-%dT%H:%M:%SZ")
                    .to_string(),
            ),
        ]);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: Some(BUNDLE.into()),
            config: self.blob(media_type::OCI_EMPTY, b"{}").await?,
            layers: vec![self.blob(BUNDLE, bundle).await?],
            subject: Some(Descriptor::new(
                media_type,
                digest.clone(),
                signed.len() as u64,
            )),
            annotations: Some(annotations.clone()),
        };
        let bytes = json_bytes(&manifest)?;
        let own = sha256(&bytes);
        let mut entry = Descriptor::new(media_type::OCI_MANIFEST, own.clone(), bytes.len() as u64);
        entry.artifact_type = Some(BUNDLE.into());
        entry.annotations = Some(annotations);
        let listed = self
            .put(own.as_str(), media_type::OCI_MANIFEST, bytes)
            .await?;
        if listed {
            return Ok(());
        }
        let tag = tag(digest, "");
        let mut index = match manifest_at(self.registry, self.reference, &tag).await? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| Error::new(ErrorKind::Invalid, format!("{tag} is damaged: {e}")))?,
            None => Index {
                schema_version: 2,
                media_type: Some(media_type::OCI_INDEX.into()),
                artifact_type: None,
                manifests: Vec::new(),
                subject: None,
                annotations: None,
            },
        };
        index.manifests.push(entry);
        self.put(&tag, media_type::OCI_INDEX, json_bytes(&index)?)
            .await
            .map(drop)
    }

    /// Sends a manifest; whether the registry lists it among its subject's referrers.
    async fn put(&self, target: &str, media_type: &str, bytes: Vec<u8>) -> Result<bool> {
        let path = format!("/v2/{}/manifests/{target}", self.reference.path());
        let response = self
            .registry
            .send(Method::PUT, &path, &self.scope(), |r| {
                r.header("content-type", media_type).body(bytes.clone())
            })
            .await?;
        if !response.status().is_success() {
            return Err(Failure::read(response).await.into_error(""));
        }
        Ok(response.headers().contains_key("oci-subject"))
    }

    /// Sends a small blob.
    async fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::new(media_type, sha256(bytes), bytes.len() as u64);
        let path = format!("/v2/{}/blobs/uploads/", self.reference.path());
        let response = self
            .registry
            .send(Method::POST, &path, &self.scope(), |r| {
                r.header("content-length", "0")
            })
            .await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(Failure::read(response).await.into_error(""));
        }
        let url = closing(&location(&response)?, &descriptor.digest)?;
        let response = self
            .registry
            .send(Method::PUT, &url, &self.scope(), |r| {
                r.header("content-type", "application/octet-stream")
                    .body(bytes.to_vec())
            })
            .await?;
        if !response.status().is_success() {
            return Err(Failure::read(response).await.into_error(""));
        }
        Ok(descriptor)
    }
}
