//! `/metrics`: what Prometheus reads.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use http::header;

use super::collect::Collected;
use super::dispatch::Call;
use super::fault::Reply;
use super::http::answer::Answer;
use super::record::statistics::{self, Totals};
use super::service::Service;

/// Kinds of requests that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Blob,
    Upload,
    Tags,
    Referrers,
    Token,
    Other,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Manifest, "manifest"),
    (Kind::Blob, "blob"),
    (Kind::Upload, "upload"),
    (Kind::Tags, "tags"),
    (Kind::Referrers, "referrers"),
    (Kind::Token, "token"),
    (Kind::Other, "other"),
];
/// 1xx to 5xx.
const CLASSES: usize = 5;

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; CLASSES]; KINDS.len()],
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    collected_blobs: AtomicU64,
    collected_bytes: AtomicU64,
    pub(crate) hooks_sent: AtomicU64,
    pub(crate) hooks_lost: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) cache_fetches: AtomicU64,
    pub(crate) cache_stale: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, kind: Kind, status: StatusCode, bytes: u64) {
        let row = KINDS.iter().position(|(k, _)| *k == kind).unwrap_or(0);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES) - 1;
        add(&self.requests[row][class], 1);
        add(&self.sent, bytes);
    }

    /// A collection has ended.
    pub(crate) fn collected(&self, collected: &Collected) {
        add(&self.collected_blobs, collected.blobs as u64);
        add(&self.collected_bytes, collected.bytes);
    }
}

/// `GET /metrics`
pub(crate) async fn answer(call: &Call) -> Reply<Answer> {
    let text = call
        .service
        .blocking(|service| {
            let totals = service.storage.record.read(statistics::totals)?;
            Ok(render(service, &totals))
        })
        .await?;
    Ok(Answer::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, "text/plain; version=0.0.4")
        .body(text.into_bytes()))
}

fn render(service: &Service, totals: &Totals) -> String {
    let metrics = &service.metrics;
    let mut text = String::new();
    head(&mut text, "requests_total", "counter", "Requests answered.");
    for (row, (_, kind)) in KINDS.iter().enumerate() {
        for class in 0..CLASSES {
            let n = metrics.requests[row][class].load(Ordering::Relaxed);
            if n > 0 {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "berth_registry_requests_total{{kind=\"{kind}\",status=\"{}xx\"}} {n}",
                    class + 1
                );
            }
        }
    }
    let counters = [
        (
            "received_bytes_total",
            "Bytes of blobs received.",
            &metrics.received,
        ),
        ("sent_bytes_total", "Bytes of answers sent.", &metrics.sent),
        (
            "collected_blobs_total",
            "Blobs that the collector removed.",
            &metrics.collected_blobs,
        ),
        (
            "collected_bytes_total",
            "Bytes that the collector removed.",
            &metrics.collected_bytes,
        ),
        (
            "webhooks_sent_total",
            "Notifications delivered.",
            &metrics.hooks_sent,
        ),
        (
            "webhooks_lost_total",
            "Notifications given up.",
            &metrics.hooks_lost,
        ),
        (
            "cache_hits_total",
            "Cached content served without asking upstream.",
            &metrics.cache_hits,
        ),
        (
            "cache_fetches_total",
            "Fetches from upstream registries.",
            &metrics.cache_fetches,
        ),
        (
            "cache_stale_total",
            "Tags served stale because upstream did not answer.",
            &metrics.cache_stale,
        ),
    ];
    for (name, about, counter) in counters {
        one(
            &mut text,
            name,
            "counter",
            about,
            counter.load(Ordering::Relaxed),
        );
    }
    let gauges = [
        (
            "uploads_open",
            "Uploads kept open.",
            service.sessions.count() as u64,
        ),
        ("repositories", "Repositories.", totals.repositories),
        ("manifests", "Manifests.", totals.manifests),
        ("tags", "Tags.", totals.tags),
        ("blobs", "Blobs.", totals.blobs),
        (
            "blob_bytes",
            "Bytes of blobs, each counted once.",
            totals.blob_bytes,
        ),
    ];
    for (name, about, value) in gauges {
        one(&mut text, name, "gauge", about, value);
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, about: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "# HELP berth_registry_{name} {about}\n# TYPE berth_registry_{name} {kind}"
    );
}

fn one(text: &mut String, name: &str, kind: &str, about: &str, value: u64) {
    head(text, name, kind, about);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "berth_registry_{name} {value}");
}
