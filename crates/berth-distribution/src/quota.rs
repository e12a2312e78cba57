//! How many pulls a registry still allows: Docker Hub counts them and says so in its answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::Response;

/// Registries that are remembered.
const HOSTS_MAX: usize = 32;

/// What a registry last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The registry: `docker.io`.
    pub registry: String,
    /// Pulls allowed in the window.
    pub limit: u64,
    /// Pulls left.
    pub remaining: u64,
    /// The time that they are counted over.
    pub window: Option<Duration>,
    /// Whom they are counted for: an address, or an account.
    pub source: Option<String>,
    /// When it said so.
    pub at: SystemTime,
}

/// What registries said.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<BTreeMap<String, Quota>>);

impl Quotas {
    /// Looks for a quota among the headers of an answer.
    pub(crate) fn note(&self, registry: &str, response: &Response) {
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let (Some(limit), Some(remaining)) = (
            header("ratelimit-limit").and_then(parse),
            header("ratelimit-remaining").and_then(parse),
        ) else {
            return;
        };
        let quota = Quota {
            registry: registry.to_owned(),
            limit: limit.0,
            remaining: remaining.0,
            window: limit.1.or(remaining.1),
            source: header("docker-ratelimit-source").map(|s| s.chars().take(128).collect()),
            at: SystemTime::now(),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < HOSTS_MAX || known.contains_key(registry) {
            known.insert(registry.to_owned(), quota);
        }
    }

    pub(crate) fn list(&self) -> Vec<Quota> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}

/// `100;w=21600`: so many in so many seconds.
fn parse(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts
        .find_map(|part| part.strip_prefix("w="))
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs);
    Some((number, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_and_without_a_window() {
        assert_eq!(
            parse("100;w=21600"),
            Some((100, Some(Duration::from_secs(21_600))))
        );
        assert_eq!(parse("76"), Some((76, None)));
        assert_eq!(parse("76; w=x"), Some((76, None)));
        assert_eq!(parse("many"), None);
    }
}
