//! A pushed manifest, read in one way only.
//!
//! Clients in many languages will read these bytes. What two of them could read differently (members
//! given twice or in another case, layers and manifests in one document, a media type that says one
//! thing and a shape that says another) is refused here, once, for all of them.

use std::collections::BTreeMap;

use berth_spec::Digest;
use berth_spec::oci::image::media_type;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::fault::{Code, Fault, Reply};
use crate::members;

/// Descriptors that one document may have.
const ENTRIES_MAX: usize = 16_384;

/// What the registry needs to know of a manifest.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) media_type: String,
    pub(crate) artifact_type: String,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) subject: Option<Digest>,
    /// Blobs that must be there, with their sizes.
    pub(crate) blobs: Vec<(Digest, u64)>,
    /// Manifests that must be there, with their sizes.
    pub(crate) manifests: Vec<(Digest, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// The members that have a meaning here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Entry>,
    layers: Option<Vec<Entry>>,
    blobs: Option<Vec<Entry>>,
    manifests: Option<Vec<Entry>>,
    subject: Option<Entry>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<IgnoredAny>,
}

/// Reads `bytes`, which came with `content_type`.
pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Reply<Document> {
    let given = content_type.map(|t| t.split(';').next().unwrap_or(t).trim());
    if given.is_some_and(is_schema1) {
        return Err(schema1());
    }
    members::check(bytes).map_err(|e| invalid(e.to_string()))?;
    let members: Members = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    if members.fs_layers.is_some() || members.schema_version == Some(1) {
        return Err(schema1());
    }
    let declared = members.media_type.as_deref();
    let media_type = match (given.filter(|g| !g.is_empty()), declared) {
        (Some(given), Some(declared)) if given != declared => {
            return Err(invalid(format!(
                "Content-Type is {given:?}, but mediaType is {declared:?}"
            )));
        }
        (Some(given), _) => given,
        (None, Some(declared)) => declared,
        (None, None) => {
            return Err(invalid(
                "neither Content-Type nor mediaType is given".into(),
            ));
        }
    };
    let media_type = media_type.to_owned();
    check_shape(&members, &media_type)?;
    read(members, media_type)
}

fn is_schema1(media_type: &str) -> bool {
    matches!(
        media_type,
        media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED
    )
}

fn schema1() -> Fault {
    invalid(
        "Docker schema 1 manifests are no longer supported: push the image with a current client"
            .into(),
    )
}

fn invalid(why: String) -> Fault {
    Fault::new(Code::ManifestInvalid, format!("manifest invalid: {why}"))
}

fn check_shape(members: &Members, media_type: &str) -> Reply<()> {
    let image = media_type::is_manifest(media_type);
    let index = media_type::is_index(media_type);
    if (image || index) && members.schema_version != Some(2) {
        return Err(invalid("schemaVersion is not 2".into()));
    }
    let has_parts = members.config.is_some() || members.layers.is_some() || members.blobs.is_some();
    if has_parts && members.manifests.is_some() {
        return Err(invalid(
            "it has the members of an image and of an index".into(),
        ));
    }
    if image && (members.config.is_none() || members.layers.is_none()) {
        return Err(invalid(format!("a {media_type} has config and layers")));
    }
    if index && members.manifests.is_none() {
        return Err(invalid(format!("a {media_type} has manifests")));
    }
    Ok(())
}

fn read(members: Members, media_type: String) -> Reply<Document> {
    // What an artifact is: said outright, or else by its config (distribution-spec 1.1, "Listing
    // Referrers").
    let by_config = members.config.as_ref().map(|c| c.media_type.clone());
    let artifact_type = members
        .artifact_type
        .filter(|t| !t.is_empty())
        .or(by_config)
        .unwrap_or_default();
    let mut document = Document {
        media_type,
        artifact_type,
        annotations: members.annotations.unwrap_or_default(),
        subject: members.subject.map(|s| s.digest),
        ..Document::default()
    };
    let parts = members
        .config
        .into_iter()
        .chain(members.layers.unwrap_or_default())
        .chain(members.blobs.unwrap_or_default());
    for part in parts.filter(|p| !is_elsewhere(&p.media_type)) {
        document.blobs.push((part.digest, part.size));
    }
    for entry in members.manifests.unwrap_or_default() {
        document.manifests.push((entry.digest, entry.size));
    }
    if document.blobs.len() + document.manifests.len() > ENTRIES_MAX {
        return Err(invalid(format!("it has more than {ENTRIES_MAX} entries")));
    }
    Ok(document)
}

/// Layers that registries do not keep: their bytes come from elsewhere.
fn is_elsewhere(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(media_type: &str) -> String {
        let digest = format!("sha256:{}", "a".repeat(64));
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":3}}"#)
    }

    fn error(text: &str, content_type: &str) -> String {
        match parse(text.as_bytes(), Some(content_type)) {
            Err(fault) => {
                assert_eq!(fault.code, Code::ManifestInvalid);
                fault.message().to_owned()
            }
            Ok(document) => panic!("{text} was read as {document:?}"),
        }
    }

    #[test]
    fn an_image_needs_its_config_and_layers() {
        let foreign = entry("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{},{foreign}]}}"#,
            entry(media_type::OCI_CONFIG),
            entry(media_type::OCI_LAYER)
        );
        let document = parse(text.as_bytes(), Some(media_type::OCI_MANIFEST)).unwrap();
        assert_eq!(document.blobs.len(), 2);
        assert_eq!(document.artifact_type, media_type::OCI_CONFIG);
        assert_eq!(document.media_type, media_type::OCI_MANIFEST);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let config = entry(media_type::OCI_CONFIG);
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(error(&both, media_type::OCI_MANIFEST).contains("of an image and of an index"));
        assert!(error(&both, media_type::OCI_INDEX).contains("of an image and of an index"));
        let twice =
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"layers":[{config}]}}"#);
        assert!(error(&twice, media_type::OCI_MANIFEST).contains("twice"));
        let case = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"Layers":[]}}"#);
        assert!(error(&case, media_type::OCI_MANIFEST).contains("can be taken for"));
        let other = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#,
            media_type::DOCKER_MANIFEST
        );
        assert!(error(&other, media_type::OCI_MANIFEST).contains("Content-Type"));
    }

    #[test]
    fn nonsense_is_refused() {
        let image = media_type::OCI_MANIFEST;
        for text in ["null", "", "[]", "3", "{}", r#"{"schemaVersion":2}"#] {
            error(text, image);
        }
        assert!(error("{}", media_type::DOCKER_SCHEMA1).contains("schema 1"));
        let minus = r#"{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:00","size":-1},"layers":[]}"#;
        error(minus, image);
        let deep = "[".repeat(100_000);
        error(&format!(r#"{{"schemaVersion":2,"x":{deep}"#), image);
    }
}
