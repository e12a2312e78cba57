//! Images: one file a verb.

mod archive;
pub(crate) mod budget;
mod history;
mod inspect;
mod list;
mod progress;
mod prune;
mod remove;
mod signature;
mod transfer;
mod verify;

use std::collections::BTreeMap;

pub use archive::{ImportRequest, import, load, save};
use berth_spec::docker::JsonMessage;
use berth_spec::docker::image::SearchResult;
use berth_spec::{Digest, Reference};
use berth_store::Image;
pub use budget::UnusedImages;
pub use history::history;
pub use inspect::inspect;
pub use list::{ListOptions, list};
pub use prune::prune;
pub use remove::remove;
pub use signature::{add_signature, attestations, verify_signature};
use tokio::sync::mpsc;
pub use transfer::{PullRequest, PushRequest, pull, push};
pub use verify::verify;

use crate::crossing::blocking;
use crate::event::Subject;
use crate::{Engine, Error, Filters, Result};

/// Lines of progress, for the client's stream. Bounded; a reader that left stops nothing.
pub type ProgressLines = mpsc::Sender<JsonMessage>;

/// An event of an image; `name` is what it is called.
pub(crate) fn tell(engine: &Engine, action: &str, id: &str, name: &str, image: Option<&Image>) {
    let mut attributes: BTreeMap<String, String> = image
        .and_then(|i| i.config.config.labels.clone())
        .unwrap_or_default();
    attributes.insert("name".to_owned(), name.to_owned());
    engine.0.events.tell(Subject::Image, action, id, attributes);
}

/// Reads `repo` and `tag` as the name of an image to be; none where `repo` is empty.
pub(crate) fn reference(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let name: Reference = repo.parse().map_err(|e| Error::invalid(format!("{e}")))?;
    if name.digest().is_some() {
        return Err(Error::invalid(
            "refusing to create a tag with a digest reference",
        ));
    }
    let name = match tag {
        "" => name.or_latest(),
        tag => name
            .with_tag(tag)
            .map_err(|_| Error::invalid("invalid tag format"))?,
    };
    Ok(Some(name))
}

/// Points a name at an image, and tells of it. Blocks.
pub(crate) fn point(engine: &Engine, name: &Reference, id: &Digest) -> Result<()> {
    engine.0.store.images().tag(name, id)?;
    let image = engine.0.store.images().get(id).ok();
    tell(engine, "tag", id.as_str(), &name.familiar(), image.as_ref());
    Ok(())
}

/// Gives an image a further name.
pub async fn tag(engine: &Engine, name: &str, repo: &str, tag: &str) -> Result<()> {
    let target = reference(repo, tag)?.ok_or_else(|| Error::invalid("invalid reference format"))?;
    let (engine, name) = (engine.clone(), name.to_owned());
    blocking(move || {
        let image = engine.0.store.images().resolve(&name)?;
        point(&engine, &target, &image.id)
    })
    .await
}

/// Results that are asked for where nobody says how many, and most of them; Docker's.
const SEARCH_LIMIT: i64 = 25;
const SEARCH_MOST: i64 = 100;

/// Looks for repositories in the Hub's index, or (`host/words`) in another. Filters are `is-official`,
/// `is-automated` and `stars`.
pub async fn search(
    engine: &Engine,
    term: &str,
    limit: Option<i64>,
    filters: Filters,
) -> Result<Vec<SearchResult>> {
    filters.allow(&["is-automated", "is-official", "stars"])?;
    let (automated, official) = (
        filters.truth("is-automated")?,
        filters.truth("is-official")?,
    );
    let mut stars = 0;
    for value in filters.get("stars") {
        let least: i64 = value
            .parse()
            .map_err(|_| Error::invalid(format!("invalid filter 'stars={value}'")))?;
        stars = stars.max(least);
    }
    let limit = limit.filter(|n| *n != 0).unwrap_or(SEARCH_LIMIT);
    let asked = u32::try_from(limit).ok().filter(|_| limit <= SEARCH_MOST);
    let Some(asked) = asked else {
        return Err(Error::invalid(format!(
            "limit {limit} is outside the range of [1, {SEARCH_MOST}]"
        )));
    };
    let mut found = engine.0.client.search(term, asked).await?;
    found.retain(|result| {
        automated.is_none_or(|wanted| wanted == result.is_automated)
            && official.is_none_or(|wanted| wanted == result.is_official)
            && result.star_count >= stars
    });
    found.truncate(asked as usize);
    Ok(found)
}

/// Containers that were made from an image.
pub(crate) fn users(
    engine: &Engine,
    id: &Digest,
) -> Vec<std::sync::Arc<crate::container::record::Container>> {
    let mut users = engine.0.containers.all();
    users.retain(|c| c.read(|r| r.image == id.as_str()));
    users
}
