//! The collector: removes what nobody needs, while everything else goes on.
//!
//! A blob goes when no manifest of any repository needs it and nobody had a new use for it for the time
//! of grace. A push, a mount and a look (`HEAD`) are such uses, so a client that has just been told
//! that a blob is here can push its manifest. Each step is a small transaction that looks again at what
//! it removes: requests between the steps are always right, and wait for one step at most.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::fault::Reply;
use super::record::sweep::{self, Unneeded};
use super::record::{self, now};
use super::retention;
use super::service::Service;
use super::units::Span;

/// Rows that one transaction looks at.
const STEP: usize = 256;

/// When and what to collect.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Collection {
    /// How often; `0s` never.
    pub interval: Span,
    /// How long something stays that nobody needs.
    pub grace: Span,
    /// How long an upload stays that nobody writes to.
    pub uploads: Span,
}

impl Default for Collection {
    fn default() -> Self {
        Self {
            interval: Span::from_secs(3600),
            grace: Span::from_secs(24 * 3600),
            uploads: Span::from_secs(24 * 3600),
        }
    }
}

/// What a collection removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// Uploads that nobody went on with.
    pub uploads: usize,
    /// Manifests, by retention.
    pub manifests: usize,
    /// Tags, by retention.
    pub tags: usize,
    /// Blobs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Collects again and again.
pub(crate) async fn run(service: Arc<Service>) {
    let interval = service.settings.collection.interval.as_duration();
    if interval == Duration::ZERO || service.settings.read_only {
        return;
    }
    loop {
        tokio::time::sleep(interval).await;
        match service.blocking(|service| once(service)).await {
            Ok(collected) if collected != Collected::default() => {
                tracing::info!(?collected, "collected");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the collection failed"),
        }
    }
}

/// Collects once.
pub(crate) fn once(service: &Service) -> Reply<Collected> {
    let settings = &service.settings.collection;
    let storage = &service.storage;
    let sessions = &service.sessions;
    let idle = settings.uploads.as_duration();
    let uploads = storage.sweep_uploads(idle, |id| sessions.is_taken(id))?;
    if uploads > 0 {
        sessions.close_idle();
    }
    let retained = retention::apply(service)?;
    let before = now()
        .saturating_sub(settings.grace.as_secs())
        .saturating_add(1);
    unlink(service, before)?;
    let mut collected = Collected {
        uploads,
        manifests: retained.manifests,
        tags: retained.tags,
        ..Collected::default()
    };
    loop {
        let (blobs, bytes) = storage.sweep_blobs(before, STEP)?;
        collected.blobs += blobs;
        collected.bytes += bytes;
        if blobs == 0 {
            break;
        }
    }
    storage
        .record
        .write(|tx| Ok(sweep::forget_empty(tx, before)?))?;
    service.metrics.collected(&collected);
    Ok(collected)
}

/// Takes from repositories what their manifests do not need.
fn unlink(service: &Service, before: i64) -> Reply<()> {
    let record: &record::Record = &service.storage.record;
    let mut last = Unneeded::default();
    loop {
        let found = record.read(|c| sweep::unneeded(c, before, &last, STEP))?;
        let Some(end) = found.last() else {
            return Ok(());
        };
        last = end.clone();
        record.write(|tx| {
            for unneeded in &found {
                sweep::unlink_unneeded(tx, unneeded, before)?;
            }
            Ok(())
        })?;
    }
}
