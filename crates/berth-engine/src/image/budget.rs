//! Images that nobody uses, kept within a budget (`unused-images` of daemon.json): the longest unused go
//! first.
//!
//! Only what could be had again goes: an image that a registry has (it has a name with a digest), or one
//! without any name. One that was built here and never sent anywhere stays, and so does one that a
//! container was made from. An image counts as used when it comes, is named, or a container is made
//! from it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use berth_spec::Digest;
use berth_store::{Budget, Image, Store};

use super::remove::remove_whole;
use super::users;
use crate::crossing::blocking;
use crate::{Engine, Result};

/// The scope of the records that say when a container was last made from an image.
const SCOPE: &str = "image-use";

/// How much room unused images may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnusedImages {
    /// Bounds of all of them together.
    pub budget: Budget,
    /// An image stays for so long after its last use, whatever the bounds say.
    pub keep: Duration,
}

impl UnusedImages {
    /// All are kept.
    pub const UNLIMITED: UnusedImages = UnusedImages {
        budget: Budget::UNLIMITED,
        keep: Duration::ZERO,
    };
}

/// Remembers that a container is made from an image, where somebody will ask for it. Blocks.
pub(crate) fn note_use(engine: &Engine, image: &Digest) -> Result<()> {
    if engine.0.settings.images == UnusedImages::UNLIMITED {
        return Ok(());
    }
    let store = &engine.0.store;
    let lease = store.lease()?;
    store
        .records()
        .put(&lease, SCOPE, image.as_str(), &now(), &[], &[])?;
    Ok(())
}

fn now() -> Vec<u8> {
    let now = jiff::Timestamp::now().as_nanosecond();
    now.to_string().into_bytes()
}

/// Removes unused images beyond the budget, and what they alone needed. How many went.
pub(crate) async fn keep(engine: &Engine) -> Result<usize> {
    if engine.0.settings.images == UnusedImages::UNLIMITED {
        return Ok(0);
    }
    let engine = engine.clone();
    blocking(move || keep_now(&engine)).await
}

fn keep_now(engine: &Engine) -> Result<usize> {
    let store = &engine.0.store;
    let UnusedImages { budget, keep } = engine.0.settings.images;
    let images = store.images().list()?;
    let (unused, used): (Vec<Image>, Vec<Image>) = images
        .into_iter()
        .partition(|image| expendable(engine, image));
    let bytes = bytes_of_their_own(store, &unused, &used)?;
    let mut surplus = budget.surplus(bytes, store.free_space()?);
    let now = jiff::Timestamp::now().as_nanosecond();
    let mut gone = 0;
    for (last_use, image) in in_order_of_use(store, unused)? {
        if surplus == 0 || now - last_use < keep.as_nanos() as i128 {
            break;
        }
        // A container may have been made from it meanwhile, or another image.
        if !users(engine, &image.id).is_empty() || !store.images().children(&image.id)?.is_empty() {
            continue;
        }
        remove_whole(engine, &image)?;
        store.records().remove(SCOPE, image.id.as_str())?;
        let freed = store.collect()?.bytes;
        tracing::info!(image.id = %image.id, freed, "an unused image went: the budget is used up");
        surplus = surplus.saturating_sub(freed);
        gone += 1;
    }
    Ok(gone)
}

fn expendable(engine: &Engine, image: &Image) -> bool {
    let can_be_had_again = !image.digests.is_empty() || image.tags.is_empty();
    can_be_had_again && users(engine, &image.id).is_empty()
}

/// Bytes on disk of the layers that only unused images need.
fn bytes_of_their_own(store: &Store, unused: &[Image], used: &[Image]) -> Result<u64> {
    let needed: HashSet<&Digest> = used.iter().flat_map(|image| image.layers()).collect();
    let own: HashSet<&Digest> = unused.iter().flat_map(|image| image.layers()).collect();
    let mut bytes = 0;
    for layer in own.difference(&needed) {
        bytes += store.layers().get(layer)?.map_or(0, |layer| layer.bytes);
    }
    Ok(bytes)
}

/// The longest unused first.
fn in_order_of_use(store: &Store, images: Vec<Image>) -> Result<Vec<(i128, Image)>> {
    let used: HashMap<String, i128> = store
        .records()
        .list(SCOPE)?
        .into_iter()
        .filter_map(|(id, when)| Some((id, std::str::from_utf8(&when).ok()?.parse().ok()?)))
        .collect();
    let last_use = |image: &Image| {
        let tagged = image.last_tagged.map(|at| at.as_nanosecond());
        let made = used.get(image.id.as_str()).copied();
        let came = image.added.as_nanosecond();
        tagged.max(made).map_or(came, |at| at.max(came))
    };
    let mut images: Vec<(i128, Image)> = images
        .into_iter()
        .map(|image| (last_use(&image), image))
        .collect();
    images.sort_by_key(|(at, _)| *at);
    Ok(images)
}
