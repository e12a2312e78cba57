//! remove: a name, and the image with its last one.

use berth_spec::docker::image::ImageDeleted;
use berth_spec::{Digest, Reference};
use berth_store::Image;

use super::{tell, users};
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Removes a name, and the image with its last one. `prune` takes its unnamed parents along.
pub async fn remove(
    engine: &Engine,
    name: &str,
    force: bool,
    prune: bool,
) -> Result<Vec<ImageDeleted>> {
    engine.make_way();
    let (engine, name) = (engine.clone(), name.to_owned());
    blocking(move || {
        let deleted = remove_now(&engine, &name, force, prune)?;
        if deleted.iter().any(|d| !d.deleted.is_empty()) {
            engine.0.store.collect()?;
        }
        Ok::<_, Error>(deleted)
    })
    .await
}

fn remove_now(engine: &Engine, name: &str, force: bool, prune: bool) -> Result<Vec<ImageDeleted>> {
    // One that is damaged can go too.
    let images = engine.0.store.images();
    let image = images.outline(&images.resolve_id(name)?)?;
    let mut deleted = Vec::new();
    match named(&image, name) {
        // By name: the name goes; the image stays if it has another.
        Some(reference) => {
            let tags = image.tags.iter().filter(|t| **t != reference).count();
            let last = match reference.digest() {
                Some(_) => image.tags.is_empty() && image.digests.len() == 1,
                None => tags == 0,
            };
            if last {
                check_unused(engine, &image, Some(name), force)?;
            }
            untag(engine, &image, &reference, &mut deleted)?;
            if !last {
                return Ok(deleted);
            }
            for digest in image.digests.iter().filter(|d| **d != reference) {
                untag(engine, &image, digest, &mut deleted)?;
            }
        }
        // By ID: all its names go, if they are of one repository.
        None => {
            let mut repositories: Vec<String> = image.tags.iter().map(Reference::name).collect();
            repositories.sort();
            repositories.dedup();
            if image.tags.len() > 1 && repositories.len() > 1 && !force {
                return Err(Error::conflict(format!(
                    "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                    image.id.short()
                )));
            }
            check_unused(engine, &image, None, force)?;
            check_children(engine, &image)?;
            for reference in image.tags.iter().chain(&image.digests) {
                untag(engine, &image, reference, &mut deleted)?;
            }
        }
    }
    if !engine.0.store.images().children(&image.id)?.is_empty() {
        // Others stand on it: it stays, without a name.
        return Ok(deleted);
    }
    delete(engine, &image, prune, &mut deleted)?;
    Ok(deleted)
}

/// The name of the image that the text is; none where it is an ID.
fn named(image: &Image, text: &str) -> Option<Reference> {
    let reference: Reference = text.parse().ok()?;
    let reference = reference.or_latest();
    let wanted = match reference.digest() {
        Some(_) => reference.without_tag(),
        None => reference,
    };
    image
        .tags
        .iter()
        .chain(&image.digests)
        .find(|name| **name == wanted)
        .cloned()
}

/// Containers hold their image; those that run even by force. `name` is how it was asked for, if by
/// name.
fn check_unused(engine: &Engine, image: &Image, name: Option<&str>, force: bool) -> Result<()> {
    let id = image.id.short();
    for container in users(engine, &image.id) {
        let short = &container.id[..12];
        let text = match (container.status().running(), force, name) {
            (_, false, Some(name)) => format!(
                "conflict: unable to remove repository reference \"{name}\" (must force) - container {short} is using its referenced image {id}"
            ),
            (true, ..) => format!(
                "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {short}"
            ),
            (false, false, None) => format!(
                "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {short}"
            ),
            (false, true, _) => continue,
        };
        return Err(Error::conflict(text));
    }
    Ok(())
}

fn check_children(engine: &Engine, image: &Image) -> Result<()> {
    if engine.0.store.images().children(&image.id)?.is_empty() {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
        image.id.short()
    )))
}

fn untag(
    engine: &Engine,
    image: &Image,
    reference: &Reference,
    deleted: &mut Vec<ImageDeleted>,
) -> Result<()> {
    if engine.0.store.images().untag(reference)?.is_some() {
        tell(
            engine,
            "untag",
            image.id.as_str(),
            image.id.as_str(),
            Some(image),
        );
        deleted.push(ImageDeleted {
            untagged: reference.familiar(),
            ..ImageDeleted::default()
        });
    }
    Ok(())
}

/// Forgets an image without names, and its parents as far as they have neither names nor other
/// children nor containers.
fn delete(
    engine: &Engine,
    image: &Image,
    prune: bool,
    deleted: &mut Vec<ImageDeleted>,
) -> Result<()> {
    let mut at = image.clone();
    loop {
        if !engine.0.store.images().remove_untagged(&at.id)? {
            // Somebody has named it meanwhile, or removed it.
            return Ok(());
        }
        tell(engine, "delete", at.id.as_str(), at.id.as_str(), Some(&at));
        deleted.push(ImageDeleted {
            deleted: at.id.to_string(),
            ..ImageDeleted::default()
        });
        let parent = at.parent.as_ref().filter(|_| prune);
        let Some(parent) = parent.and_then(|p| engine.0.store.images().get(p).ok()) else {
            return Ok(());
        };
        if !idle(engine, &parent)? {
            return Ok(());
        }
        at = parent;
    }
}

/// Whether nothing names or needs an image.
fn idle(engine: &Engine, image: &Image) -> Result<bool> {
    let needed = |id: &Digest| Ok::<_, Error>(!engine.0.store.images().children(id)?.is_empty());
    Ok(image.tags.is_empty()
        && image.digests.is_empty()
        && users(engine, &image.id).is_empty()
        && !needed(&image.id)?)
}

/// Forgets an image whatever it is called. For prune.
pub(super) fn remove_whole(engine: &Engine, image: &Image) -> Result<Vec<ImageDeleted>> {
    let mut deleted = Vec::new();
    for reference in image.tags.iter().chain(&image.digests) {
        untag(engine, image, reference, &mut deleted)?;
    }
    if engine.0.store.images().children(&image.id)?.is_empty() {
        delete(engine, image, true, &mut deleted)?;
    }
    Ok(deleted)
}
