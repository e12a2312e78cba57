//! Manifests and indexes: fetched, bounded, verified, read in one way only.

use berth_spec::oci::image::{CONFIG_MAX, Descriptor, Index, MANIFEST_MAX, Manifest, media_type};
use berth_spec::{Digest, Reference};
use berth_store::hash::{digest_with, sha256};
use reqwest::{Method, Response, StatusCode};
use serde_json::value::RawValue;

use crate::failure::{Failure, read_capped};
use crate::registry::Registry;
use crate::{Error, ErrorKind, Result, members};

/// A document that a registry answered for a tag or digest, and what it turned out to be.
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) document: Document,
}

/// One of the two things a reference may name.
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Box<Index>),
}

/// The members that decide what a document is.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    schema_version: Option<u32>,
    media_type: Option<String>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
    #[serde(borrow)]
    manifests: Option<&'a RawValue>,
}

/// Reads `bytes` as what their own shape says; a document of two shapes is refused, so that no two
/// readers can see two images in it.
pub(crate) fn parse(bytes: &[u8], content_type: &str) -> Result<(Document, String)> {
    let invalid = |why: String| Error::new(ErrorKind::Invalid, format!("invalid manifest: {why}"));
    members::check(bytes).map_err(|e| invalid(e.to_string()))?;
    let shape: Shape = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let declared = shape.media_type.as_deref().unwrap_or(content_type);
    if shape.schema_version == Some(1)
        || declared.starts_with(media_type::DOCKER_SCHEMA1.trim_end_matches("+json"))
    {
        return Err(invalid("it is a Docker schema 1 manifest, which is no longer supported: push the image again with a current client".into()));
    }
    if shape.schema_version != Some(2) {
        return Err(invalid("schemaVersion is not 2".into()));
    }
    match (shape.layers.is_some(), shape.manifests.is_some()) {
        (true, true) => Err(invalid("it has both layers and manifests".into())),
        (false, false) => Err(invalid("it has neither layers nor manifests".into())),
        (true, false) if media_type::is_index(declared) => {
            Err(invalid(format!("it has layers but says it is {declared}")))
        }
        (false, true) if media_type::is_manifest(declared) => Err(invalid(format!(
            "it has manifests but says it is {declared}"
        ))),
        (true, false) => {
            let manifest =
                Box::new(serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?);
            let default = media_type::OCI_MANIFEST;
            Ok((
                Document::Manifest(manifest),
                known(declared, media_type::is_manifest, default),
            ))
        }
        (false, true) => {
            let index =
                Box::new(serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?);
            Ok((
                Document::Index(index),
                known(declared, media_type::is_index, media_type::OCI_INDEX),
            ))
        }
    }
}

fn known(declared: &str, is: fn(&str) -> bool, default: &str) -> String {
    if is(declared) { declared } else { default }.to_owned()
}

/// What `repository:…:pull` a read needs.
pub(crate) fn pull_scope(reference: &Reference) -> String {
    format!("repository:{}:pull", reference.path())
}

/// What a reference asks for: its digest, else its tag.
pub(crate) fn target(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or(berth_spec::reference::DEFAULT_TAG).to_owned(),
    }
}

/// What manifests we read, for `Accept`.
pub(crate) const ACCEPT: &str = concat!(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
);

fn header(response: &Response, name: &str) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_owned())
}

/// Asks what the tag `target` stands for now, without fetching it: registries count fetches. None
/// where the registry does not say.
pub(crate) async fn head(
    registry: &Registry,
    reference: &Reference,
    target: &str,
) -> Result<Option<Digest>> {
    let path = format!("/v2/{}/manifests/{target}", reference.path());
    let response = registry
        .send(Method::HEAD, &path, &pull_scope(reference), |r| {
            r.header("accept", ACCEPT)
        })
        .await?;
    if !response.status().is_success() {
        return Ok(None);
    }
    Ok(header(&response, "docker-content-digest").and_then(|d| d.parse().ok()))
}

/// Fetches the manifest or index at `target`, a tag or a digest. `expect` is what a descriptor says
/// of it.
pub(crate) async fn fetch(
    registry: &Registry,
    reference: &Reference,
    target: &str,
    expect: Option<(&Digest, u64)>,
) -> Result<Fetched> {
    let path = format!("/v2/{}/manifests/{target}", reference.path());
    let response = registry
        .send(Method::GET, &path, &pull_scope(reference), |r| {
            r.header("accept", ACCEPT)
        })
        .await?;
    if !response.status().is_success() {
        return Err(explain(reference, Failure::read(response).await));
    }
    let content_type = header(&response, "content-type").unwrap_or_default();
    let promised = header(&response, "docker-content-digest").and_then(|d| d.parse().ok());
    let bytes = read_capped(response, MANIFEST_MAX).await?;
    let by_digest: Option<Digest> = target.parse().ok();
    let wanted = expect.map(|(d, _)| d).or(by_digest.as_ref());
    for other in [wanted, promised.as_ref()].into_iter().flatten() {
        let found = digest_with(other.algorithm(), &bytes);
        if *other != found {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "manifest verification failed for digest {other}: the registry sent {found}"
                ),
            ));
        }
    }
    if let Some((digest, size)) = expect.filter(|(_, size)| *size != bytes.len() as u64) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "manifest {digest} has {} bytes, its descriptor says {size}",
                bytes.len()
            ),
        ));
    }
    let (document, media_type) = parse(&bytes, &content_type)?;
    Ok(Fetched {
        digest: wanted.cloned().unwrap_or_else(|| sha256(&bytes)),
        media_type,
        bytes,
        document,
    })
}

/// A failed manifest request in the words that Docker's users know.
pub(crate) fn explain(reference: &Reference, failure: Failure) -> Error {
    if failure.has("NAME_UNKNOWN") {
        let name = reference.familiar_name();
        return Error::new(
            ErrorKind::NotFound,
            format!("repository {name} not found: {}", failure.text),
        );
    }
    match failure.status {
        StatusCode::NOT_FOUND => {
            let said = if failure.codes.is_empty() {
                "manifest unknown"
            } else {
                &failure.text
            };
            Error::new(
                ErrorKind::NotFound,
                format!("manifest for {} not found: {said}", reference.familiar()),
            )
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => denied(reference, &failure.text),
        _ => failure.into_error(""),
    }
}

/// Docker's words where a registry does not let us pull.
fn denied(reference: &Reference, said: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!(
            "pull access denied for {}, repository does not exist or may require 'docker login': {said}",
            reference.familiar_name()
        ),
    )
}

/// Fetches a config blob, verified.
pub(crate) async fn fetch_config(
    registry: &Registry,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<Vec<u8>> {
    let Descriptor { digest, size, .. } = descriptor;
    if *size > CONFIG_MAX {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("config {digest} says it has {size} bytes, more than {CONFIG_MAX}"),
        ));
    }
    let path = format!("/v2/{}/blobs/{digest}", reference.path());
    let response = registry
        .send(Method::GET, &path, &pull_scope(reference), |r| r)
        .await?;
    if !response.status().is_success() {
        let failure = Failure::read(response).await;
        return Err(failure.into_error(&format!("config {digest}")));
    }
    let bytes = read_capped(response, CONFIG_MAX).await?;
    if digest_with(digest.algorithm(), &bytes) != *digest || bytes.len() as u64 != *size {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("config {digest}: the registry sent other bytes than its digest and size say"),
        ));
    }
    Ok(bytes)
}

/// The entry of `index` for `platform` (`os/arch[/variant]`), or for this machine.
pub(crate) fn select<'a>(
    index: &'a Index,
    platform: Option<&str>,
    reference: &Reference,
) -> Result<&'a Descriptor> {
    let own = own_platform();
    let wanted = platform.unwrap_or(&own);
    let mut parts = wanted.split('/');
    let (os, arch) = (
        parts.next().unwrap_or("linux"),
        parts.next().unwrap_or_default(),
    );
    let variant = parts.next();
    let matching = |strict: bool| {
        index.manifests.iter().find(|d| {
            let Some(p) = &d.platform else { return false };
            let v = p.variant.as_deref();
            p.os == os
                && p.architecture == arch
                && match (variant, v) {
                    (Some(w), Some(v)) => w == v,
                    (Some(_), None) => !strict,
                    // arm64 is v8 unless said otherwise; amd64's plain form is preferred to v2, v3.
                    (None, v) => !strict || matches!((arch, v), (_, None) | ("arm64", Some("v8"))),
                }
        })
    };
    matching(true).or_else(|| matching(false)).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!(
                "no matching manifest for {wanted} in the manifest list entries of {}",
                reference.familiar()
            ),
        )
    })
}

/// `linux/amd64` and the like.
pub(crate) fn own_platform() -> String {
    format!("linux/{}", berth_store::platform::architecture())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    fn error(text: &str, content_type: &str) -> String {
        parse(text.as_bytes(), content_type)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_document_has_one_shape() {
        let manifest = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[]}}"#);
        assert!(
            matches!(parse(manifest.as_bytes(), media_type::DOCKER_MANIFEST), Ok((Document::Manifest(_), t)) if t == media_type::DOCKER_MANIFEST)
        );
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(
            matches!(parse(index.as_bytes(), ""), Ok((Document::Index(_), t)) if t == media_type::OCI_INDEX)
        );
        let both = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[],"manifests":[]}}"#);
        assert_eq!(
            error(&both, ""),
            "invalid manifest: it has both layers and manifests"
        );
        for (twin, says) in [
            ("Layers", r#"member "Layers" can be taken for "layers""#),
            (
                "MEDIATYPE",
                r#"member "MEDIATYPE" can be taken for "mediaType""#,
            ),
            ("layers", r#"member "layers" stands twice"#),
        ] {
            let twins =
                format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[],"{twin}":[]}}"#);
            assert!(error(&twins, "").contains(says), "{}", error(&twins, ""));
        }
        assert!(error(&manifest, media_type::OCI_INDEX).contains("says it is"));
        assert!(error(index, media_type::OCI_MANIFEST).contains("says it is"));
        assert!(error(r#"{"schemaVersion":1}"#, "").contains("schema 1"));
        assert!(error(r#"{"layers":[]}"#, "").contains("schemaVersion"));
        assert!(!error("null", "").is_empty());
        assert!(!error("", "").is_empty());
    }

    #[test]
    fn platforms_are_chosen_as_docker_does() {
        let entry = |arch: &str, variant: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{:0>64}","size":1,"platform":{{"os":"linux","architecture":"{arch}"{}}}}}"#,
                format!("{}{}", arch.len(), variant.len()),
                if variant.is_empty() {
                    String::new()
                } else {
                    format!(r#","variant":"{variant}""#)
                }
            )
        };
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{},{}]}}"#,
            entry("arm", "v6"),
            entry("arm", "v7x"),
            entry("amd64", ""),
            entry("arm64", "v8")
        );
        let Ok((Document::Index(index), _)) = parse(text.as_bytes(), "") else {
            panic!("an index")
        };
        let reference: Reference = "a".parse().unwrap();
        let arch = |p: &str| {
            select(&index, Some(p), &reference).map(|d| {
                let p = d.platform.clone().unwrap();
                format!("{}/{}", p.architecture, p.variant.unwrap_or_default())
            })
        };
        assert_eq!(arch("linux/amd64").unwrap(), "amd64/");
        assert_eq!(arch("linux/arm/v7x").unwrap(), "arm/v7x");
        assert_eq!(arch("linux/arm64").unwrap(), "arm64/v8");
        assert!(
            arch("linux/s390x")
                .unwrap_err()
                .to_string()
                .contains("no matching manifest for linux/s390x")
        );
        assert!(arch("windows/amd64").is_err());
    }
}
