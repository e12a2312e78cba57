//! `/v2/NAME/blobs/DIGEST`

use berth_spec::Digest;
use http::{StatusCode, header};
use tokio::sync::mpsc;

use super::cache;
use super::dispatch::Call;
use super::events::{Action, Origin};
use super::fault::{Code, Fault, Reply};
use super::http::answer::{Answer, CONTENT_DIGEST};
use super::http::body::Body;
use super::http::file::FileBody;
use super::range::{Wanted, wanted};
use super::record::{blobs, now};
use super::service::Service;
use super::storage::Found;

/// A blob that a client has just been told of is needed soon: its time of grace begins anew when this
/// many seconds of it have passed.
const TOUCH_AFTER: i64 = 300;

/// `GET` and `HEAD`.
pub(crate) async fn get(call: &Call, repository: String, digest: Digest) -> Reply<Answer> {
    let (name, of, head) = (repository.clone(), digest.clone(), call.is_head());
    let found = call
        .service
        .blocking(move |service| {
            let found = service.storage.open_blob(&name, &of)?;
            if head && found.is_some() {
                lease(service, &name, &of)?;
            }
            match (&service.engine, found) {
                (Some(engine), None) => {
                    let found = engine.blob(&name, &of)?;
                    Ok(found.map(|(file, size)| Found::File(file, size)))
                }
                (_, found) => Ok(found),
            }
        })
        .await?;
    if let Some(found) = found {
        return serve(call, &digest, found).await;
    }
    let Some(cached) = &call.cached else {
        return Err(unknown(&digest));
    };
    if call.is_head() {
        return cache::blob_head(call, cached, &digest).await;
    }
    if let Some(answer) = cache::blob(call, cached, &digest).await? {
        return Ok(answer);
    }
    // It has come while we waited.
    let of = digest.clone();
    let found = call
        .service
        .blocking(move |service| service.storage.open_blob(&repository, &of))
        .await?;
    serve(call, &digest, found.ok_or_else(|| unknown(&digest))?).await
}

/// A client that asks whether a blob is here goes on to push a manifest that needs it.
fn lease(service: &Service, repository: &str, digest: &Digest) -> Reply<()> {
    let record = &service.storage.record;
    let touched = record.read(|c| blobs::touched(c, repository, digest))?;
    let patience = TOUCH_AFTER.min(service.settings.collection.grace.as_secs() / 4);
    if service.settings.read_only || touched.is_none_or(|at| now() - at < patience) {
        return Ok(());
    }
    record.write(|tx| Ok(blobs::touch(tx, repository, digest)?))
}

/// Answers with the blob `digest`, with the part of it that is asked for, or with where it is.
async fn serve(call: &Call, digest: &Digest, found: Found) -> Reply<Answer> {
    let size = match &found {
        Found::File(_, size) => *size,
        Found::Object(object) => object.size,
    };
    let etag = format!("\"{digest}\"");
    let described = |status| {
        Answer::new(status)
            .header(CONTENT_DIGEST, digest.as_str())
            .header(header::ETAG, &etag)
            .header(header::CACHE_CONTROL, "max-age=31536000, immutable")
            .header(header::ACCEPT_RANGES, "bytes")
    };
    if is_match(call.header(header::IF_NONE_MATCH), &etag) {
        return Ok(described(StatusCode::NOT_MODIFIED));
    }
    if let Found::Object(object) = &found
        && !call.is_head()
        && let Some(address) = object.address()
    {
        // The store knows ranges itself. The address is good for a while only.
        return Ok(Answer::new(StatusCode::TEMPORARY_REDIRECT)
            .header(header::LOCATION, address)
            .header(CONTENT_DIGEST, digest.as_str())
            .header(header::CACHE_CONTROL, "no-store"));
    }
    let range = call
        .header(header::RANGE)
        .filter(|_| call.header(header::IF_RANGE).is_none_or(|e| e == etag));
    let (status, from, length) = match wanted(range, size) {
        Wanted::Whole => (StatusCode::OK, 0, size),
        Wanted::Part(from, length) => (StatusCode::PARTIAL_CONTENT, from, length),
        Wanted::Nothing => {
            return Err(Fault::new(
                Code::RangeInvalid,
                format!("the blob has {size} bytes: there is no such part of it"),
            )
            .with_header(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let mut answer = described(status).header(header::CONTENT_TYPE, "application/octet-stream");
    if status == StatusCode::PARTIAL_CONTENT {
        let last = from + length - 1;
        answer = answer.header(header::CONTENT_RANGE, format!("bytes {from}-{last}/{size}"));
    }
    let body = match found {
        Found::File(file, _) => {
            let parts = call.peer.parts.clone();
            Body::File(FileBody::new(file, from, length, parts))
        }
        Found::Object(_) if call.is_head() || length == 0 => {
            // Nothing is sent: the length is all that is wanted of the body.
            let (_, chunks) = mpsc::channel(1);
            Body::Stream {
                chunks,
                left: length,
            }
        }
        Found::Object(object) => {
            let chunks = object.read(from, length).await?;
            Body::Stream {
                chunks: chunks.ok_or_else(|| unknown(digest))?,
                left: length,
            }
        }
    };
    Ok(answer.body(body))
}

/// Whether `If-None-Match` names what we have.
pub(crate) fn is_match(header: Option<&str>, etag: &str) -> bool {
    header.is_some_and(|list| {
        list.split(',')
            .map(|e| e.trim().trim_start_matches("W/"))
            .any(|e| e == etag || e == "*")
    })
}

/// `DELETE`: the repository loses the blob; others keep it.
pub(crate) async fn delete(call: &Call, repository: String, digest: Digest) -> Reply<Answer> {
    refuse_unless_deletable(&call.service)?;
    let of = digest.clone();
    let mut event = Origin::of(call).event(Action::Delete, &repository);
    event.digest = Some(digest.to_string());
    let removed = call
        .service
        .blocking(move |service| {
            service.storage.record.write(|tx| {
                if blobs::is_needed(tx, &repository, &of)? {
                    return Err(Fault::new(
                        Code::Denied,
                        format!(
                            "blob {of} is part of a manifest of {repository}: delete that first"
                        ),
                    )
                    .with_status(StatusCode::CONFLICT));
                }
                Ok(blobs::unlink(tx, &repository, &of)?)
            })
        })
        .await?;
    match removed {
        true => {
            call.service.events.tell(event);
            Ok(Answer::new(StatusCode::ACCEPTED).header(CONTENT_DIGEST, digest.as_str()))
        }
        false => Err(unknown(&digest)),
    }
}

/// Deleting may be switched off.
pub(crate) fn refuse_unless_deletable(service: &Service) -> Reply<()> {
    match service.settings.delete {
        true => Ok(()),
        false => Err(Fault::new(
            Code::Unsupported,
            "deleting is switched off in this registry",
        )),
    }
}

/// The repository has no such blob.
pub(crate) fn unknown(digest: &Digest) -> Fault {
    Fault::new(Code::BlobUnknown, "blob unknown to registry")
        .with_detail(serde_json::json!({ "digest": digest }))
}
