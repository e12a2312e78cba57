//! Pull-through caches: repositories of other registries, fetched when they are first asked for.
//!
//! A cache stands for one upstream. Its repositories are reached under its prefix (`hub/library/debian`),
//! by containerd's `ns=` parameter, or, for one of the caches, under their plain names, as docker's
//! `registry-mirrors` asks. What was fetched is stored like what was pushed, and collected like it.

mod blob;
mod flight;
mod listing;
mod manifest;
mod upstream;

use serde::Deserialize;

use super::dispatch::Call;
use super::fault::{Code, Fault, Reply};
use super::name;
use super::record;
use super::route::Resource;
use super::service::Service;
use super::units::Span;
use crate::{Client, ClientOptions, Secret};
use flight::Flights;
use upstream::Upstream;

pub(crate) use blob::{get as blob, head as blob_head};
pub(crate) use listing::{referrers, tags};
pub(crate) use manifest::{Freshness, refresh};

/// A cache of another registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CacheSettings {
    /// The registry, as names of images have it: `docker.io`, `quay.io`, `registry.lan:5000`.
    pub upstream: String,
    /// What stands before its repositories here.
    pub prefix: String,
    /// An account there.
    #[serde(default)]
    pub username: String,
    /// Its password.
    #[serde(default)]
    pub password: Secret,
    /// How long a tag is taken for current without asking upstream.
    #[serde(default = "ten_minutes")]
    pub fresh: Span,
    /// Whether it may be spoken to without TLS.
    #[serde(default)]
    pub insecure: bool,
    /// Whether its repositories are also reached without the prefix.
    #[serde(default)]
    pub root: bool,
}

fn ten_minutes() -> Span {
    Span::from_secs(600)
}

/// All caches of a registry.
#[derive(Default)]
pub(crate) struct Caches {
    upstreams: Vec<Upstream>,
    pub(crate) flights: Flights,
}

/// A cached repository that a request is about.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    /// Which cache.
    number: usize,
    /// Its name there.
    pub(crate) there: String,
    /// Its name here.
    pub(crate) here: String,
}

impl Caches {
    pub(crate) fn open(settings: &[CacheSettings], options: &ClientOptions) -> Reply<Self> {
        let mut upstreams: Vec<Upstream> = Vec::new();
        for cache in settings {
            let wrong = |why: &str| {
                Fault::new(
                    Code::Unknown,
                    format!("cache of {:?}: {why}", cache.upstream),
                )
            };
            if !name::is_repository(&cache.prefix) {
                return Err(wrong("the prefix is no repository name"));
            }
            if upstreams.iter().any(|u| u.settings.prefix == cache.prefix) {
                return Err(wrong("another cache has the same prefix"));
            }
            if cache.root && upstreams.iter().any(|u| u.settings.root) {
                return Err(wrong("another cache is the root already"));
            }
            let mut options = options.clone();
            if cache.insecure {
                options.insecure_registries.push(cache.upstream.clone());
            }
            let client = Client::new(options).map_err(|e| wrong(&e.to_string()))?;
            upstreams.push(Upstream::new(cache.clone(), client));
        }
        Ok(Self {
            upstreams,
            flights: Flights::default(),
        })
    }

    fn upstream(&self, cached: &Cached) -> &Upstream {
        &self.upstreams[cached.number]
    }

    /// The cache under whose prefix `repository` lies.
    fn by_prefix(&self, repository: &str) -> Option<Cached> {
        self.upstreams.iter().enumerate().find_map(|(number, u)| {
            let there = repository
                .strip_prefix(&u.settings.prefix)?
                .strip_prefix('/')?;
            Some(Cached {
                number,
                there: there.to_owned(),
                here: repository.to_owned(),
            })
        })
    }

    fn under(&self, number: usize, repository: &str) -> Cached {
        let prefix = &self.upstreams[number].settings.prefix;
        Cached {
            number,
            there: repository.to_owned(),
            here: format!("{prefix}/{repository}"),
        }
    }

    /// The cache that stands for the registry `host`.
    fn by_host(&self, host: &str, repository: &str) -> Option<Cached> {
        let number = self
            .upstreams
            .iter()
            .position(|u| u.settings.upstream == host)?;
        Some(self.under(number, repository))
    }

    fn by_root(&self, repository: &str) -> Option<Cached> {
        let number = self.upstreams.iter().position(|u| u.settings.root)?;
        Some(self.under(number, repository))
    }
}

/// Gives a request about a cached repository its name here.
pub(crate) async fn localize(call: &mut Call, resource: Resource) -> Reply<Resource> {
    let caches = &call.service.caches;
    let (Some(repository), false) = (resource.repository(), caches.upstreams.is_empty()) else {
        return Ok(resource);
    };
    let mut cached = match call.query.get("ns") {
        Some(host) => caches.by_host(host, repository),
        None => None,
    };
    cached = cached.or_else(|| caches.by_prefix(repository));
    if cached.is_none()
        && let Some(by_root) = caches.by_root(repository)
        && !is_ours(call, repository).await?
        && !matches!(resource, Resource::Uploads(_) | Resource::Upload(..))
    {
        cached = Some(by_root);
    }
    let Some(cached) = cached else {
        return Ok(resource);
    };
    if super::dispatch::is_change(&call.method) && call.method != http::Method::DELETE {
        return Err(Fault::new(
            Code::Unsupported,
            format!(
                "{} is a cache: push to the registry it stands for",
                cached.here
            ),
        ));
    }
    let resource = resource.renamed(&cached.here);
    call.cached = Some(cached);
    Ok(resource)
}

/// Whether something was pushed here under this name.
async fn is_ours(call: &Call, repository: &str) -> Reply<bool> {
    let name = repository.to_owned();
    call.service
        .blocking(move |service: &std::sync::Arc<Service>| {
            service
                .storage
                .record
                .read(|c| record::has_repository(c, &name))
        })
        .await
}
