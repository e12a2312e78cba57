//! What a registry has under a name, without fetching it.

use std::sync::Arc;

use berth_spec::Reference;
use berth_spec::oci::image::{Descriptor, ImageConfig, Platform};

use crate::client::Shared;
use crate::manifest::{self, Document};
use crate::registry::Registry;
use crate::{Credentials, Error, ErrorKind, Inspected, Result};

pub(crate) async fn inspect(
    client: &Arc<Shared>,
    reference: &Reference,
    auth: Option<&Credentials>,
) -> Result<Inspected> {
    let reference = reference.clone().or_latest();
    let registry = Registry::resolving(client, &reference, auth).await?;
    let reference = registry.name(&reference);
    let target = manifest::target(reference);
    let fetched = client
        .retry
        .run(&target, || {
            manifest::fetch(&registry, reference, &target, None)
        })
        .await?;
    let platforms = match &fetched.document {
        Document::Index(index) => index
            .manifests
            .iter()
            .filter_map(|d| d.platform.clone())
            .collect(),
        Document::Manifest(manifest) => {
            let config = manifest::fetch_config(&registry, reference, &manifest.config).await?;
            let config: ImageConfig = serde_json::from_slice(&config).map_err(|e| {
                Error::new(ErrorKind::Invalid, format!("invalid image config: {e}"))
            })?;
            vec![Platform {
                architecture: config.architecture,
                os: config.os,
                os_version: config.os_version,
                os_features: config.os_features,
                variant: config.variant,
            }]
        }
    };
    let size = fetched.bytes.len() as u64;
    Ok(Inspected {
        descriptor: Descriptor::new(fetched.media_type, fetched.digest, size),
        platforms,
    })
}
