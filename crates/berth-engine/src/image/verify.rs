//! verify: whether images still are what their digests say.

use berth_spec::Reference;
use berth_spec::docker::image::{ImageDamage, ImageVerified};
use berth_store::{Part, Verified};

use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Reads all that is kept of these images (of all, and of what belongs to none, where none is named)
/// and computes every digest again. Takes as long as reading the disk takes.
pub async fn verify(engine: &Engine, names: Vec<String>) -> Result<Vec<ImageVerified>> {
    let store = engine.0.store.clone();
    blocking(move || {
        let ids = names
            .iter()
            .map(|name| Ok(store.images().resolve_id(name)?))
            .collect::<Result<Vec<_>>>()?;
        Ok::<_, Error>(store.verify(&ids)?.into_iter().map(line).collect())
    })
    .await
}

fn line(verified: Verified) -> ImageVerified {
    let familiar = |name: String| match name.parse::<Reference>() {
        Ok(name) => name.familiar(),
        Err(_) => name,
    };
    ImageVerified {
        id: verified
            .image
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        repo_tags: verified.names.into_iter().map(familiar).collect(),
        layers: verified.layers as u64,
        blobs: verified.blobs as u64,
        damage: verified
            .damage
            .into_iter()
            .map(|damage| ImageDamage {
                kind: match damage.part {
                    Part::Layer => "layer",
                    Part::Blob => "blob",
                }
                .to_owned(),
                digest: damage.digest.as_str().to_owned(),
                problem: damage.problem,
            })
            .collect(),
    }
}
