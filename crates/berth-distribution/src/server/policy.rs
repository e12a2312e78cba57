//! What a push may not do although its user may push: move immutable tags, exceed quotas.

use berth_spec::Digest;
use serde::Deserialize;

use super::fault::{Code, Fault, Reply};
use super::pattern::Pattern;
use super::record::{Connection, statistics, tags};
use super::units::Bytes;

/// Tags that stay where they are once they are set.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Immutable {
    /// The repositories it is about.
    pub repositories: Vec<Pattern>,
    /// The tags it is about.
    pub tags: Vec<Pattern>,
}

/// How much a namespace may hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Quota {
    /// A repository and all whose names begin with it and a slash; `""` is the whole registry.
    pub namespace: String,
    /// Bytes of blobs, each counted once.
    pub bytes: Bytes,
}

/// Whether `tag` of `repository` stays where it is.
pub(crate) fn is_immutable(rules: &[Immutable], repository: &str, tag: &str) -> bool {
    rules.iter().any(|rule| {
        rule.repositories.iter().any(|p| p.matches(repository))
            && rule.tags.iter().any(|p| p.matches(tag))
    })
}

/// Refuses to point an immutable tag elsewhere.
pub(crate) fn check_tag(
    rules: &[Immutable],
    connection: &Connection,
    repository: &str,
    tag: &str,
    digest: &Digest,
) -> Reply<()> {
    if !is_immutable(rules, repository, tag) {
        return Ok(());
    }
    match tags::get(connection, repository, tag)? {
        Some(there) if there != *digest => Err(immutable(repository, tag)),
        _ => Ok(()),
    }
}

/// The refusal to change an immutable tag.
pub(crate) fn immutable(repository: &str, tag: &str) -> Fault {
    Fault::new(
        Code::Denied,
        format!("tag {repository}:{tag} is immutable: push under another tag"),
    )
    .with_status(http::StatusCode::CONFLICT)
}

/// Refuses a blob that `repository` has no room for. One that its namespace has already takes none.
pub(crate) fn check_quota(
    quotas: &[Quota],
    connection: &Connection,
    repository: &str,
    digest: &Digest,
    more: u64,
) -> Reply<()> {
    for quota in quotas.iter().filter(|q| is_in(repository, &q.namespace)) {
        if statistics::is_in(connection, &quota.namespace, digest)? {
            continue;
        }
        let used = statistics::bytes_in(connection, &quota.namespace)?;
        if used.saturating_add(more) > quota.bytes.get() {
            let name = match quota.namespace.as_str() {
                "" => "the registry",
                name => name,
            };
            return Err(Fault::new(
                Code::Denied,
                format!(
                    "quota of {name} exceeded: {used} of {} bytes are used, {more} more are wanted",
                    quota.bytes.get()
                ),
            ));
        }
    }
    Ok(())
}

fn is_in(repository: &str, namespace: &str) -> bool {
    namespace.is_empty()
        || repository
            .strip_prefix(namespace)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
