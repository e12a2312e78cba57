//! list: a line for each image.

use std::collections::HashMap;

use berth_spec::docker::ImageSummary;
use berth_spec::{Digest, Reference};
use berth_store::Image;
use jiff::Timestamp;

use super::users;
use crate::crossing::blocking;
use crate::{Engine, Error, Filters, Result, time};

/// Which images [`list`] shows.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those without a name that others were built on, too.
    pub all: bool,
    pub filters: Filters,
    /// Compute how many bytes are shared.
    pub shared_size: bool,
}

/// When an image was made.
pub(super) fn created(image: &Image) -> Option<Timestamp> {
    image.config.created.as_ref().and_then(|t| t.parse().ok())
}

/// Lists images, the newest first.
pub async fn list(engine: &Engine, options: ListOptions) -> Result<Vec<ImageSummary>> {
    options.filters.allow(&[
        "before",
        "dangling",
        "label",
        "label!",
        "reference",
        "since",
        "until",
    ])?;
    let engine = engine.clone();
    blocking(move || list_now(&engine, &options)).await
}

fn list_now(engine: &Engine, options: &ListOptions) -> Result<Vec<ImageSummary>> {
    let filters = &options.filters;
    let store = engine.0.store.images();
    let images = store.list()?;
    let dangling = filters.truth("dangling")?;
    let until = time::until(filters)?;
    let bound = |name: &str| -> Result<Option<Timestamp>> {
        match filters.get(name).first() {
            Some(image) => Ok(created(&store.resolve(image)?)),
            None => Ok(None),
        }
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let parents: std::collections::HashSet<&Digest> =
        images.iter().filter_map(|i| i.parent.as_ref()).collect();
    let shares = options
        .shared_size
        .then(|| shares(engine, &images))
        .transpose()?;
    let mut lines = Vec::new();
    for image in &images {
        let named = !image.tags.is_empty() || !image.digests.is_empty();
        let is_dangling = image.tags.is_empty();
        let inner = !named && parents.contains(&image.id);
        let at = created(image);
        let labels = image.config.config.labels.clone().unwrap_or_default();
        let taken = (options.all || !inner)
            && dangling.is_none_or(|d| d == (is_dangling && !parents.contains(&image.id)))
            && before.is_none_or(|b| at.is_some_and(|at| at < b))
            && since.is_none_or(|s| at.is_some_and(|at| at > s))
            && until.is_none_or(|u| at.is_none_or(|at| at <= u))
            && filters.labels(&labels);
        if !taken {
            continue;
        }
        let Some((tags, digests)) = names(image, filters.get("reference")) else {
            continue;
        };
        let shared = shares
            .as_ref()
            .map_or(-1, |s| s.get(&image.id).copied().unwrap_or(0));
        lines.push(ImageSummary {
            containers: match options.shared_size {
                true => users(engine, &image.id).len() as i64,
                false => -1,
            },
            created: at.map_or(0, Timestamp::as_second),
            id: image.id.to_string(),
            labels: (!labels.is_empty()).then_some(labels),
            parent_id: image
                .parent
                .as_ref()
                .map(Digest::to_string)
                .unwrap_or_default(),
            repo_digests: digests,
            repo_tags: tags,
            shared_size: shared,
            size: i64::try_from(image.size).unwrap_or(i64::MAX),
        });
    }
    lines.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    Ok(lines)
}

/// The names of an image, those that the patterns of `reference` choose; none where none is chosen.
fn names(image: &Image, patterns: &[String]) -> Option<(Vec<String>, Vec<String>)> {
    let chosen = |names: &[Reference]| -> Vec<String> {
        names
            .iter()
            .filter(|r| patterns.is_empty() || patterns.iter().any(|p| matches(p, r)))
            .map(Reference::familiar)
            .collect()
    };
    let (tags, digests) = (chosen(&image.tags), chosen(&image.digests));
    (patterns.is_empty() || !tags.is_empty() || !digests.is_empty()).then_some((tags, digests))
}

/// Docker matches a pattern with the familiar name, with and without its tag.
fn matches(pattern: &str, name: &Reference) -> bool {
    wild(pattern, &name.familiar()) || wild(pattern, &name.familiar_name())
}

/// A pattern of shells: `*` and `?` stop at a slash.
fn wild(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    // Where the last star was, and up to where it took.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some('?') if text[t] != '/' => (p, t) = (p + 1, t + 1),
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) if text[taken] != '/' => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Bytes of each image's layers that other images have, too.
fn shares(engine: &Engine, images: &[Image]) -> Result<HashMap<Digest, i64>> {
    let mut users: HashMap<&Digest, u32> = HashMap::new();
    for image in images {
        for layer in image.layers() {
            *users.entry(layer).or_default() += 1;
        }
    }
    let mut shares = HashMap::new();
    for image in images {
        let mut bytes = 0;
        for layer in image.layers() {
            if users.get(layer).is_some_and(|n| *n > 1) {
                let size = engine.0.store.layers().get(layer)?.map_or(0, |l| l.size);
                bytes += i64::try_from(size).unwrap_or(0);
            }
        }
        shares.insert(image.id.clone(), bytes);
    }
    Ok::<_, Error>(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("b?sybox:*", "busybox:latest", true),
            ("b?x", "b/x", false),
            ("*box*", "busybox:1", true),
            ("busybox", "busyboxes", false),
        ] {
            assert_eq!(wild(pattern, text), expected, "{pattern} {text}");
        }
    }
}
