//! How long tags and untagged manifests stay. A rule can be tried without effect: with `dry-run` the
//! log tells what would go.

use serde::Deserialize;

use super::fault::Reply;
use super::pattern::Pattern;
use super::policy;
use super::record::sweep::{self, Untagged};
use super::record::{self, manifests, now, statistics, tags};
use super::service::Service;
use super::units::Span;

/// Manifests that one transaction removes.
const STEP: usize = 128;
/// Repositories that are looked up at a time.
const REPOSITORIES: usize = 256;

/// A rule: the first whose repositories match decides for a repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retention {
    /// The repositories it is about.
    pub repositories: Vec<Pattern>,
    /// The tags it may remove.
    #[serde(default = "every")]
    pub tags: Vec<Pattern>,
    /// Tags that stay in any case.
    #[serde(default)]
    pub keep_tags: Vec<Pattern>,
    /// So many of the tags that were moved last stay.
    #[serde(default)]
    pub keep_last: Option<usize>,
    /// Tags that were moved within this time stay.
    #[serde(default)]
    pub keep_within: Option<Span>,
    /// Tags whose manifest was pulled within this time stay.
    #[serde(default)]
    pub keep_pulled_within: Option<Span>,
    /// Manifests without a tag go after this time; without it, they stay.
    #[serde(default)]
    pub untagged_after: Option<Span>,
    /// Only tell what would go.
    #[serde(default)]
    pub dry_run: bool,
}

fn every() -> Vec<Pattern> {
    vec![Pattern::new("**")]
}

/// Something that a rule removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condemned {
    /// Its repository.
    pub repository: String,
    /// The tag; nothing for a manifest without one.
    pub tag: Option<String>,
    /// The manifest.
    pub digest: String,
    /// Why.
    pub reason: String,
    /// Whether the rule only tells.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    pub(crate) tags: usize,
    pub(crate) manifests: usize,
}

/// Removes what the rules condemn. Tags first: what loses its last tag goes after its own time.
pub(crate) fn apply(service: &Service) -> Reply<Retained> {
    let mut retained = Retained::default();
    if service.settings.retention.is_empty() {
        return Ok(retained);
    }
    for condemned in condemned_tags(service)? {
        report(&condemned);
        if !condemned.dry_run && remove_tag(service, &condemned)? {
            retained.tags += 1;
        }
    }
    for condemned in condemned_manifests(service)? {
        report(&condemned);
        if !condemned.dry_run && remove_manifest(service, &condemned)? {
            retained.manifests += 1;
        }
    }
    Ok(retained)
}

fn report(condemned: &Condemned) {
    let Condemned {
        repository,
        tag,
        digest,
        reason,
        dry_run,
    } = condemned;
    let tag = tag.as_deref().unwrap_or_default();
    tracing::info!(repository, tag, digest, reason, dry_run, "retention");
}

fn rule_for<'a>(rules: &'a [Retention], repository: &str) -> Option<&'a Retention> {
    rules
        .iter()
        .find(|rule| rule.repositories.iter().any(|p| p.matches(repository)))
}

fn condemned_tags(service: &Service) -> Reply<Vec<Condemned>> {
    let mut condemned = Vec::new();
    let mut last = String::new();
    loop {
        let names = service
            .storage
            .record
            .read(|c| record::repositories(c, &last, REPOSITORIES))?;
        let Some(end) = names.last() else {
            return Ok(condemned);
        };
        last = end.clone();
        for name in &names {
            let Some(rule) = rule_for(&service.settings.retention, name) else {
                continue;
            };
            let tags = service
                .storage
                .record
                .read(|c| statistics::tags(c, name, "", usize::MAX))?;
            let immutable = &service.settings.immutable;
            let open = tags
                .into_iter()
                .filter(|tag| !policy::is_immutable(immutable, name, &tag.name))
                .collect();
            condemned.extend(choose(rule, name, open, now()));
        }
    }
}

/// Which of `tags` go. Pure.
fn choose(
    rule: &Retention,
    repository: &str,
    mut tags: Vec<statistics::TagSummary>,
    now: i64,
) -> Vec<Condemned> {
    // Without a limit of its own a rule says nothing of tags.
    if rule.keep_last.is_none() && rule.keep_within.is_none() && rule.keep_pulled_within.is_none() {
        return Vec::new();
    }
    let is = |patterns: &[Pattern], tag: &str| patterns.iter().any(|p| p.matches(tag));
    tags.retain(|tag| is(&rule.tags, &tag.name) && !is(&rule.keep_tags, &tag.name));
    tags.sort_by(|a, b| b.moved.cmp(&a.moved).then(a.name.cmp(&b.name)));
    let within = |span: Option<Span>, at: i64| span.is_some_and(|s| now - at < s.as_secs());
    tags.into_iter()
        .skip(rule.keep_last.unwrap_or(0))
        .filter(|tag| !within(rule.keep_within, tag.moved))
        .filter(|tag| !within(rule.keep_pulled_within, tag.pulled))
        .map(|tag| Condemned {
            repository: repository.to_owned(),
            reason: format!(
                "moved {} s ago and not kept by count or use",
                now - tag.moved
            ),
            tag: Some(tag.name),
            digest: tag.digest,
            dry_run: rule.dry_run,
        })
        .collect()
}

fn condemned_manifests(service: &Service) -> Reply<Vec<Condemned>> {
    let rules = &service.settings.retention;
    let Some(shortest) = rules.iter().filter_map(|r| r.untagged_after).min() else {
        return Ok(Vec::new());
    };
    let (mut condemned, mut last) = (Vec::new(), Untagged::default());
    loop {
        let before = now() - shortest.as_secs() + 1;
        let found = service
            .storage
            .record
            .read(|c| sweep::untagged(c, before, &last, STEP))?;
        let Some(end) = found.last() else {
            return Ok(condemned);
        };
        last = end.clone();
        for untagged in found {
            let Some(rule) = rule_for(rules, &untagged.repository) else {
                continue;
            };
            let age = now() - untagged.pushed;
            if rule
                .untagged_after
                .is_some_and(|after| age >= after.as_secs())
            {
                condemned.push(Condemned {
                    repository: untagged.repository,
                    tag: None,
                    digest: untagged.digest,
                    reason: format!("no tag, pushed {age} s ago"),
                    dry_run: rule.dry_run,
                });
            }
        }
    }
}

/// Removes the tag if it still means what it did.
fn remove_tag(service: &Service, condemned: &Condemned) -> Reply<bool> {
    let (Some(tag), repository) = (&condemned.tag, &condemned.repository) else {
        return Ok(false);
    };
    let removed = service.storage.record.write(|tx| {
        let there = tags::get(tx, repository, tag)?;
        if there.is_none_or(|digest| digest.as_str() != condemned.digest) {
            return Ok(false);
        }
        Ok(tags::remove(tx, repository, tag)?.is_some())
    })?;
    service.memory.forget(repository);
    Ok(removed)
}

/// Removes the manifest if it still has no tag.
fn remove_manifest(service: &Service, condemned: &Condemned) -> Reply<bool> {
    let repository = &condemned.repository;
    let Ok(digest) = condemned.digest.parse() else {
        return Ok(false);
    };
    let removed = service.storage.record.write(|tx| {
        if sweep::is_held(tx, repository, &condemned.digest)? {
            return Ok(false);
        }
        Ok(manifests::remove(tx, repository, &digest)?.is_some())
    })?;
    service.memory.forget(repository);
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str, moved: i64, pulled: i64) -> statistics::TagSummary {
        statistics::TagSummary {
            name: name.into(),
            digest: format!("sha256:{name}"),
            media_type: String::new(),
            moved,
            pulled,
        }
    }

    fn gone(rule: &str, tags: Vec<statistics::TagSummary>) -> Vec<String> {
        let rule: Retention = serde_json::from_str(rule).unwrap();
        choose(&rule, "a", tags, 1_000_000)
            .into_iter()
            .filter_map(|c| c.tag)
            .collect()
    }

    #[test]
    fn what_count_age_and_use_do_not_keep_goes() {
        let tags = || {
            vec![
                tag("new", 999_990, 0),
                tag("old", 100, 0),
                tag("older", 50, 0),
                tag("loved", 10, 999_999),
                tag("v1", 1, 0),
            ]
        };
        let rule =
            r#"{"repositories":["**"],"keep-last":2,"keep-pulled-within":"1h","keep-tags":["v*"]}"#;
        assert_eq!(gone(rule, tags()), ["older"]);
        let rule = r#"{"repositories":["**"],"keep-within":"1h","tags":["old*"]}"#;
        assert_eq!(gone(rule, tags()), ["old", "older"]);
        assert!(gone(r#"{"repositories":["**"],"untagged-after":"1h"}"#, tags()).is_empty());
    }
}
