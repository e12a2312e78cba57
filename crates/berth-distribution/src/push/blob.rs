//! One blob on its way up (distribution-spec, "Pushing blobs").
//!
//! ```text
//! HEAD blob ── 200 ──▶ there already
//!   │ 404
//! POST uploads?mount=…&from=… ── 201 ──▶ linked        (from one that is known to have it)
//!   │ 202 Location
//! PUT Location?digest=…  with all bytes                (or, where a registry refuses that:)
//! PATCH Location … PATCH Location, PUT Location?digest=…
//! ```

use std::io::SeekFrom;
use std::sync::Arc;
use std::time::Duration;

use berth_spec::Digest;
use berth_spec::oci::image::Descriptor;
use futures_util::TryStreamExt;
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::Push;
use crate::failure::Failure;
use crate::pull::blocking;
use crate::token::form;
use crate::{Error, ErrorKind, LayerPhase, Progress, Result};

/// Bytes per PATCH where a registry does not take a blob whole.
const CHUNK: u64 = 8 << 20;

/// Sends the layer `diff_id`, as `preferred` if that can be done; returns what it went as.
pub(super) async fn send_layer(
    push: &Push,
    diff_id: &Digest,
    preferred: Option<&Descriptor>,
) -> Result<Descriptor> {
    for candidate in candidates(push, diff_id, preferred).await? {
        if exists(push, &candidate).await? {
            push.say(diff_id, LayerPhase::LayerAlreadyExists).await;
            return Ok(candidate);
        }
        let upload = match mount(push, &candidate).await? {
            Mount::Done(from) => {
                push.say(diff_id, LayerPhase::MountedFrom(from)).await;
                return Ok(candidate);
            }
            Mount::Upload(location) => location,
        };
        if is_here(push, &candidate).await? {
            send(push, diff_id, &candidate, upload).await?;
            return Ok(candidate);
        }
    }
    let (store, lease, layer) = (push.store.clone(), push.lease.clone(), diff_id.clone());
    let made = blocking(move || store.compress_layer(&lease, &layer)).await?;
    if exists(push, &made).await? {
        push.say(diff_id, LayerPhase::LayerAlreadyExists).await;
    } else {
        send(push, diff_id, &made, None).await?;
    }
    Ok(made)
}

/// The blobs that the layer may go as, best first: the preferred one, then those that are here.
async fn candidates(
    push: &Push,
    diff_id: &Digest,
    preferred: Option<&Descriptor>,
) -> Result<Vec<Descriptor>> {
    let (store, lease, layer) = (push.store.clone(), push.lease.clone(), diff_id.clone());
    let preferred = preferred.map(|d| d.digest.clone());
    blocking(move || {
        let mut ranked = Vec::new();
        for blob in store.layers().blobs(&layer)? {
            lease.hold_blob(&blob.digest);
            let here = store.content().info(&blob.digest)?.is_some();
            ranked.push((Some(&blob.digest) != preferred.as_ref(), !here, blob));
        }
        ranked.sort_by_key(|(other, absent, _)| (*other, *absent));
        Ok(ranked.into_iter().map(|(_, _, blob)| blob).collect())
    })
    .await
}

async fn is_here(push: &Push, descriptor: &Descriptor) -> Result<bool> {
    let (content, digest) = (push.store.content().clone(), descriptor.digest.clone());
    blocking(move || Ok(content.info(&digest)?.is_some())).await
}

/// Sends a layer's blob and tells how it goes.
async fn send(
    push: &Push,
    diff_id: &Digest,
    descriptor: &Descriptor,
    location: Option<String>,
) -> Result<()> {
    let (progress, id) = (push.progress.clone(), diff_id.short().to_owned());
    let total = descriptor.size;
    let told = move |current| {
        let phase = LayerPhase::Pushing { current, total };
        progress.hint(Progress::Layer {
            id: id.clone(),
            phase,
        });
    };
    upload(push, descriptor, location, told).await?;
    push.say(diff_id, LayerPhase::Pushed).await;
    Ok(())
}

/// Whether the repository has the blob.
pub(super) async fn exists(push: &Push, descriptor: &Descriptor) -> Result<bool> {
    let path = format!("/v2/{}/blobs/{}", push.reference.path(), descriptor.digest);
    let head = || async {
        let response = push
            .registry
            .send(Method::HEAD, &path, &push.scope(), |r| r)
            .await?;
        match response.status() {
            s if s.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::new(
                ErrorKind::Unauthorized,
                "denied: requested access to the resource is denied",
            )),
            _ => Err(Failure::read(response).await.into_error("")),
        }
    };
    push.client.retry.run("blob", head).await
}

/// What came of asking for a link.
enum Mount {
    /// Linked from this repository.
    Done(String),
    /// Not linked; the registry may have opened an upload instead.
    Upload(Option<String>),
}

async fn mount(push: &Push, descriptor: &Descriptor) -> Result<Mount> {
    let (sources, digest) = (push.store.sources().clone(), descriptor.digest.clone());
    let domain = push.reference.domain().to_owned();
    let own = push.reference.path();
    let known = blocking(move || sources.of(&digest, &domain)).await?;
    let Some(from) = known.into_iter().find(|r| r != own) else {
        return Ok(Mount::Upload(None));
    };
    let query = form(&[("mount", descriptor.digest.as_str()), ("from", &from)]);
    let path = format!("/v2/{own}/blobs/uploads/?{query}");
    let scope = format!("{} repository:{from}:pull", push.scope());
    let response = push
        .registry
        .send(Method::POST, &path, &scope, |r| {
            r.header("content-length", "0")
        })
        .await?;
    match response.status() {
        StatusCode::CREATED => Ok(Mount::Done(from)),
        StatusCode::ACCEPTED => {
            let (sources, digest) = (push.store.sources().clone(), descriptor.digest.clone());
            let domain = push.reference.domain().to_owned();
            blocking(move || sources.forget(&digest, &domain, &from)).await?;
            location(&response).map(|at| Mount::Upload(Some(at)))
        }
        // A registry without links is asked to take the bytes.
        _ => Ok(Mount::Upload(None)),
    }
}

/// Sends the blob's bytes; `at` begins an upload that is open already. `told` hears how many have
/// left.
pub(super) async fn upload(
    push: &Push,
    descriptor: &Descriptor,
    mut at: Option<String>,
    told: impl Fn(u64) + Send + Sync + 'static,
) -> Result<()> {
    let told: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(told);
    let retry = push.client.retry;
    let mut tried = 1;
    loop {
        let outcome = async {
            let location = match at.take() {
                Some(location) => location,
                None => begin(push).await?,
            };
            put_whole(push, descriptor, &location, told.clone()).await
        }
        .await;
        match outcome {
            Ok(()) => return Ok(()),
            Err(error) if crate::retry::passes(&error) && tried < retry.tries => {
                retry.wait(descriptor.digest.short(), tried, &error).await;
                tried += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens an upload and returns where it goes on.
async fn begin(push: &Push) -> Result<String> {
    let path = format!("/v2/{}/blobs/uploads/", push.reference.path());
    let response = push
        .registry
        .send(Method::POST, &path, &push.scope(), |r| {
            r.header("content-length", "0")
        })
        .await?;
    if response.status() != StatusCode::ACCEPTED {
        return Err(refused(Failure::read(response).await));
    }
    location(&response)
}

/// A refusal to take a blob, in Docker's words.
fn refused(failure: Failure) -> Error {
    match failure.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if failure.codes.is_empty() => Error::new(
            ErrorKind::Unauthorized,
            "denied: requested access to the resource is denied",
        ),
        _ => failure.into_error(""),
    }
}

/// `Location`, absolute: it may be a path, or lie on another host.
pub(crate) fn location(response: &Response) -> Result<String> {
    response
        .headers()
        .get("location")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| response.url().join(v).ok())
        .map(|url| url.to_string())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("{}: an upload without a Location", response.url()),
            )
        })
}

/// `location` with `digest=…` added to the query it has.
pub(crate) fn closing(location: &str, digest: &Digest) -> Result<String> {
    let mut url = Url::parse(location).map_err(|e| {
        Error::new(
            ErrorKind::Invalid,
            format!("upload location {location:?}: {e}"),
        )
    })?;
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    Ok(url.to_string())
}

/// How long sending so many bytes, and having them looked at, may take: a modem's time, and ten
/// minutes.
fn patience(bytes: u64) -> Duration {
    Duration::from_secs(600 + bytes / 4096)
}

async fn put_whole(
    push: &Push,
    descriptor: &Descriptor,
    location: &str,
    told: Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<()> {
    let Descriptor { digest, size, .. } = descriptor;
    let url = closing(location, digest)?;
    // One handle per try: a request's body is read once.
    let open = || {
        push.store
            .content()
            .open(digest)
            .map(tokio::fs::File::from_std)
    };
    let first = open()?;
    let mut ready = Some(first);
    let ready = std::sync::Mutex::new(ready.take());
    let response = push
        .registry
        .send(Method::PUT, &url, &push.scope(), |r| {
            let taken = ready
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
            let request = r
                .timeout(patience(*size))
                .header("content-type", "application/octet-stream")
                .header("content-length", size.to_string());
            match taken.map_or_else(open, Ok) {
                Ok(file) => request.body(body(file, told.clone())),
                // Without its body the request fails by its length.
                Err(_) => request,
            }
        })
        .await?;
    match response.status() {
        s if s.is_success() => Ok(()),
        // Proxies with a limit, and registries that only take chunks.
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::PAYLOAD_TOO_LARGE => {
            drop(response);
            patch_chunks(push, descriptor, told).await
        }
        _ => Err(refused(Failure::read(response).await)),
    }
}

fn body(file: tokio::fs::File, told: Arc<dyn Fn(u64) + Send + Sync>) -> Body {
    let mut sent = 0;
    let stream = ReaderStream::with_capacity(file, 64 << 10).inspect_ok(move |chunk| {
        sent += chunk.len() as u64;
        told(sent);
    });
    Body::wrap_stream(stream)
}

/// A new upload, in chunks that tell their range.
async fn patch_chunks(
    push: &Push,
    descriptor: &Descriptor,
    told: Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<()> {
    let Descriptor { digest, size, .. } = descriptor;
    let failed = |e| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot read blob {digest}: {e}"),
        )
    };
    let mut file = tokio::fs::File::from_std(push.store.content().open(digest)?);
    let mut at = begin(push).await?;
    let mut sent = 0;
    while sent < *size {
        file.seek(SeekFrom::Start(sent)).await.map_err(failed)?;
        let mut chunk = Vec::new();
        (&mut file)
            .take(CHUNK)
            .read_to_end(&mut chunk)
            .await
            .map_err(failed)?;
        let chunk = bytes::Bytes::from(chunk);
        let range = format!("{sent}-{}", sent + (chunk.len() as u64).saturating_sub(1));
        let response = push
            .registry
            .send(Method::PATCH, &at, &push.scope(), |r| {
                r.timeout(patience(CHUNK))
                    .header("content-type", "application/octet-stream")
                    .header("content-range", &range)
                    .header("content-length", chunk.len().to_string())
                    .body(chunk.clone())
            })
            .await?;
        if !response.status().is_success() {
            return Err(refused(Failure::read(response).await));
        }
        at = location(&response)?;
        sent += chunk.len() as u64;
        told(sent);
    }
    let response = push
        .registry
        .send(Method::PUT, &closing(&at, digest)?, &push.scope(), |r| {
            r.timeout(patience(*size)).header("content-length", "0")
        })
        .await?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(refused(Failure::read(response).await))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_its_query() {
        let digest = berth_store::hash::sha256(b"x");
        let encoded = digest.as_str().replace(':', "%3A");
        let close = |l: &str| closing(l, &digest).unwrap();
        assert_eq!(
            close("http://r/u/1"),
            format!("http://r/u/1?digest={encoded}")
        );
        assert_eq!(
            close("http://r/u/1?_state=a%2Bb"),
            format!("http://r/u/1?_state=a%2Bb&digest={encoded}")
        );
        assert!(closing("not a url", &digest).is_err());
    }
}
