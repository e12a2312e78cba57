//! Cached manifests: tags are compared with upstream by `HEAD` when they are no longer fresh, and
//! served stale when upstream does not answer.

use berth_spec::{Digest, Reference};
use bytes::Bytes;

use super::{Cached, upstream};
use crate::manifest::{self, Fetched};
use crate::server::dispatch::Call;
use crate::server::document;
use crate::server::fault::{Code, Fault, Reply};
use crate::server::metrics::add;
use crate::server::record::{NewManifest, manifests, now, tags};
use crate::server::route::Target;
use crate::server::service::Service;
use crate::{Error, ErrorKind};

/// Whether what is here is what upstream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Fresh,
    /// Upstream did not answer.
    Stale,
}

/// Brings the manifest that a request is about here, or up to date.
pub(crate) async fn refresh(call: &Call, cached: &Cached, target: &Target) -> Reply<Freshness> {
    if let Some(freshness) = known(call, cached, target).await? {
        return Ok(freshness);
    }
    // One at a time asks upstream for the same thing; the others find what it has brought.
    let key = format!("{}@{}", cached.here, target.as_str());
    let _turn = call.service.caches.flights.turn(&key).await;
    if let Some(freshness) = known(call, cached, target).await? {
        return Ok(freshness);
    }
    let upstream = call.service.caches.upstream(cached);
    let reference = upstream.reference(cached)?;
    match ask(call, cached, &reference, target).await {
        Ok(()) => Ok(Freshness::Fresh),
        Err(error) => {
            upstream.disconnect().await;
            let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid);
            if !gone && is_here(call, cached, target).await? {
                tracing::warn!(upstream = upstream.settings.upstream, %error, "serving a stale tag");
                add(&call.service.metrics.cache_stale, 1);
                return Ok(Freshness::Stale);
            }
            Err(upstream::fault(&upstream.settings.upstream, &error))
        }
    }
}

/// Fresh, if nobody has to be asked.
async fn known(call: &Call, cached: &Cached, target: &Target) -> Reply<Option<Freshness>> {
    let fresh = call
        .service
        .caches
        .upstream(cached)
        .settings
        .fresh
        .as_secs();
    let (here, target) = (cached.here.clone(), target.clone());
    let known = call
        .service
        .blocking(move |service| {
            service.storage.record.read(|c| {
                let digest = match &target {
                    Target::Digest(digest) => Some(digest.clone()),
                    Target::Tag(tag) => tags::checked(c, &here, tag)?
                        .filter(|(_, at)| now() - at < fresh)
                        .map(|(digest, _)| digest),
                };
                match digest {
                    Some(digest) => Ok(manifests::size(c, &here, &digest)?.is_some()),
                    None => Ok(false),
                }
            })
        })
        .await?;
    if known {
        add(&call.service.metrics.cache_hits, 1);
    }
    Ok(known.then_some(Freshness::Fresh))
}

async fn is_here(call: &Call, cached: &Cached, target: &Target) -> Reply<bool> {
    let Target::Tag(tag) = target.clone() else {
        return Ok(false);
    };
    Ok(current(call, cached, &tag).await?.is_some())
}

/// What the tag means here, if its manifest is here.
async fn current(call: &Call, cached: &Cached, tag: &str) -> Reply<Option<Digest>> {
    let (here, tag) = (cached.here.clone(), tag.to_owned());
    call.service
        .blocking(move |service| {
            service.storage.record.read(|c| {
                let Some(digest) = tags::get(c, &here, &tag)? else {
                    return Ok(None);
                };
                Ok(manifests::size(c, &here, &digest)?.map(|_| digest))
            })
        })
        .await
}

async fn ask(
    call: &Call,
    cached: &Cached,
    reference: &Reference,
    target: &Target,
) -> Result<(), Error> {
    let registry = call
        .service
        .caches
        .upstream(cached)
        .connect(reference)
        .await?;
    if let Target::Tag(tag) = target {
        let ours = current(call, cached, tag).await.map_err(ours_failed)?;
        if ours.is_some() && manifest::head(&registry, reference, tag).await? == ours {
            let (here, tag) = (cached.here.clone(), tag.clone());
            let Some(digest) = ours else {
                return Ok(());
            };
            return call
                .service
                .blocking(move |service| {
                    let record = &service.storage.record;
                    record.write(|tx| Ok(tags::set(tx, &here, &tag, &digest)?))
                })
                .await
                .map_err(ours_failed);
        }
    }
    add(&call.service.metrics.cache_fetches, 1);
    let fetched = manifest::fetch(&registry, reference, target.as_str(), None).await?;
    let (here, target) = (cached.here.clone(), target.clone());
    call.service
        .blocking(move |service| keep(service, &here, &target, fetched))
        .await
        .map_err(|fault| match fault.code {
            Code::ManifestInvalid => Error::new(ErrorKind::Invalid, fault.message()),
            _ => ours_failed(fault),
        })
}

fn ours_failed(fault: Fault) -> Error {
    Error::new(ErrorKind::Internal, fault.message())
}

/// Records what was fetched. What it needs comes when it is asked for.
fn keep(service: &Service, here: &str, target: &Target, fetched: Fetched) -> Reply<()> {
    let document = document::parse(&fetched.bytes, Some(&fetched.media_type))?;
    let manifest = NewManifest {
        digest: fetched.digest,
        media_type: fetched.media_type,
        bytes: Bytes::from(fetched.bytes),
        subject: document.subject,
        artifact_type: document.artifact_type,
        annotations: document.annotations,
        blobs: document.blobs.into_iter().map(|(d, _)| d).collect(),
        manifests: document.manifests.into_iter().map(|(d, _)| d).collect(),
        pushed_by: String::new(),
    };
    service.storage.record.write(|tx| {
        manifests::add(tx, here, &manifest)?;
        if let Target::Tag(tag) = target {
            tags::set(tx, here, tag, &manifest.digest)?;
        }
        Ok(())
    })?;
    service.memory.forget(here);
    Ok(())
}
