//! prune: images that nobody needs go.

use std::collections::BTreeMap;

use berth_spec::docker::image::ImagesPruned;

use super::list::created;
use super::remove::remove_whole;
use super::users;
use crate::crossing::blocking;
use crate::event::Subject;
use crate::{Engine, Error, Filters, Result, time};

/// Removes images without a name (all that no container uses, with the filter `dangling=false`).
pub async fn prune(engine: &Engine, filters: Filters) -> Result<ImagesPruned> {
    filters.allow(&["dangling", "label", "label!", "until"])?;
    engine.make_way();
    let engine = engine.clone();
    blocking(move || prune_now(&engine, &filters)).await
}

fn prune_now(engine: &Engine, filters: &Filters) -> Result<ImagesPruned> {
    let dangling = filters.truth("dangling")?.unwrap_or(true);
    let until = time::until(filters)?;
    let images = engine.0.store.images();
    let mut deleted = Vec::new();
    for image in images.list()? {
        let labels = image.config.config.labels.clone().unwrap_or_default();
        let young = until.is_some_and(|u| created(&image).is_some_and(|at| at > u));
        let named = !image.tags.is_empty();
        if (dangling && named)
            || young
            || !filters.labels(&labels)
            || !users(engine, &image.id).is_empty()
            // It may have gone with one that stood on it.
            || images.get(&image.id).is_err()
            || !images.children(&image.id)?.is_empty()
        {
            continue;
        }
        deleted.extend(remove_whole(engine, &image)?);
    }
    let collected = engine.0.store.collect()?;
    let attributes = BTreeMap::from([("reclaimed".to_owned(), collected.bytes.to_string())]);
    engine
        .0
        .events
        .tell(Subject::Image, "prune", "", attributes);
    Ok::<_, Error>(ImagesPruned {
        images_deleted: (!deleted.is_empty()).then_some(deleted),
        space_reclaimed: collected.bytes,
    })
}
