//! `/v2/NAME/blobs/uploads/…`: pushing blobs (distribution-spec 1.1, "Pushing Blobs").

use std::sync::Arc;

use berth_spec::Digest;
use berth_spec::digest::Algorithm;
use http::{StatusCode, header};

use super::access::Verb;
use super::dispatch::Call;
use super::events::{Action, Origin};
use super::fault::{Code, Fault, Reply};
use super::http::answer::{Answer, CONTENT_DIGEST, UPLOAD_ID};
use super::metrics;
use super::policy;
use super::range;
use super::receive::receive;
use super::record::blobs::{self, Mounted};
use super::route::parse_digest;
use super::service::Service;
use super::sessions::{self, Turn};
use super::storage::upload::Upload;

/// `POST`: mounts, takes a whole blob, or begins an upload.
pub(crate) async fn begin(call: Call, repository: String) -> Reply<Answer> {
    if let Some(mount) = call.query.get("mount") {
        let digest = parse_digest(mount)?;
        let from = call.query.get("from").map(str::to_owned);
        if mounted(&call, from, &repository, &digest).await? {
            let mut event = Origin::of(&call).event(Action::Mount, &repository);
            event.digest = Some(digest.to_string());
            call.service.events.tell(event);
            return Ok(created(&repository, &digest));
        }
        // As if nothing had been asked for: the client sends the blob.
    }
    let digest = call.query.get("digest").map(parse_digest).transpose()?;
    let algorithm = match (&digest, call.query.get("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, None | Some("sha256")) => Algorithm::Sha256,
        (None, Some("sha512")) => Algorithm::Sha512,
        (None, Some(other)) => {
            return Err(Fault::new(
                Code::DigestInvalid,
                format!("unsupported digest algorithm: {other:?}"),
            ));
        }
    };
    let name = repository.clone();
    let upload = call
        .service
        .blocking(move |service| service.storage.begin_upload(&name, algorithm))
        .await?;
    let turn = sessions::begin(&call.service, &upload);
    match digest {
        Some(digest) => last_bytes(call, upload, turn, digest).await,
        None => {
            let answer = progress(StatusCode::ACCEPTED, &upload);
            turn.give_back(upload);
            Ok(answer)
        }
    }
}

/// Gives `repository` a blob that another one has: `from`, or any that has it.
async fn mounted(
    call: &Call,
    from: Option<String>,
    repository: &str,
    digest: &Digest,
) -> Reply<bool> {
    let (to, digest) = (repository.to_owned(), digest.clone());
    let (caller, base) = (call.caller.clone(), call.base());
    call.service
        .blocking(move |service| {
            let access = &service.access;
            let mut sources = match from {
                Some(from) => vec![from],
                None => service
                    .storage
                    .record
                    .read(|c| blobs::holders(c, &digest))?,
            };
            // A mount is a pull from there.
            sources.retain(|source| access.may_allow(&caller, source, Verb::Pull));
            let (granted, other): (Vec<_>, Vec<_>) = sources
                .into_iter()
                .partition(|source| access.allows(&caller, source, Verb::Pull));
            if mount_from(service, &granted, &to, &digest)? {
                return Ok(true);
            }
            for source in other {
                let record = &service.storage.record;
                let found = record.read(|c| blobs::size_in(c, &source, &digest))?;
                if found.is_some() {
                    // The user may, the token does not say so: the client can have one that does.
                    return Err(access.ask_for_mount(&source, &to, &base));
                }
            }
            Ok(false)
        })
        .await
}

fn mount_from(service: &Service, sources: &[String], to: &str, digest: &Digest) -> Reply<bool> {
    service.storage.record.write(|tx| {
        if let Some(size) = blobs::size(tx, digest)? {
            policy::check_quota(&service.settings.quotas, tx, to, digest, size)?;
        }
        for source in sources {
            if let Mounted::Yes(_) = blobs::mount(tx, source, to, digest)? {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

fn created(repository: &str, digest: &Digest) -> Answer {
    Answer::new(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{repository}/blobs/{digest}"))
        .header(CONTENT_DIGEST, digest.as_str())
}

fn location(upload: &Upload) -> String {
    format!("/v2/{}/blobs/uploads/{}", upload.repository, upload.id)
}

/// Where an upload stands.
fn progress(status: StatusCode, upload: &Upload) -> Answer {
    Answer::new(status)
        .header(header::LOCATION, location(upload))
        .header(header::RANGE, reached(upload))
        .header(UPLOAD_ID, &upload.id)
}

/// `0-LAST`. An upload without a byte is `0-0`, as clients have it from the reference registry.
fn reached(upload: &Upload) -> String {
    format!("0-{}", upload.size().saturating_sub(1))
}

/// `GET`: how far the upload has come.
pub(crate) async fn status(call: &Call, repository: &str, id: &str) -> Reply<Answer> {
    let (upload, turn) = sessions::take(&call.service, repository, id).await?;
    let answer = progress(StatusCode::NO_CONTENT, &upload);
    turn.give_back(upload);
    Ok(answer)
}

/// `DELETE`: the client has changed its mind.
pub(crate) async fn cancel(call: &Call, repository: &str, id: &str) -> Reply<Answer> {
    let (upload, turn) = sessions::take(&call.service, repository, id).await?;
    call.service
        .blocking(move |service| {
            let discarded = service.storage.discard(upload);
            drop(turn);
            discarded
        })
        .await?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}

/// `PATCH`: the next bytes, as a chunk with its range or as a stream.
pub(crate) async fn append(call: Call, repository: String, id: String) -> Reply<Answer> {
    let (upload, turn) = sessions::take(&call.service, &repository, &id).await?;
    let expected = match expected_length(&call, &upload) {
        Ok(expected) => expected,
        Err(fault) => {
            turn.give_back(upload);
            return Err(fault);
        }
    };
    let service = call.service.clone();
    match bytes_of(call, upload, &turn, expected).await {
        (Some(upload), received) => {
            let answer = progress(StatusCode::ACCEPTED, &upload);
            let kept = give_back(&service, upload, turn).await;
            received.and(kept).map(|()| answer)
        }
        (None, received) => Err(received
            .err()
            .unwrap_or_else(|| Fault::internal("the upload was lost", id))),
    }
}

/// Leaves the upload for the next request, whichever replica it comes to.
async fn give_back(service: &Arc<Service>, mut upload: Upload, turn: Turn) -> Reply<()> {
    if !upload.is_object() {
        turn.give_back(upload);
        return Ok(());
    }
    service
        .blocking(move |service| {
            let kept = service.storage.keep(&mut upload);
            turn.give_back(upload);
            kept
        })
        .await
}

/// What the request says of its bytes: where they begin must be where the upload stands.
fn expected_length(call: &Call, upload: &Upload) -> Reply<Option<u64>> {
    let sent: Option<u64> = call
        .header(header::CONTENT_LENGTH)
        .and_then(|text| text.parse().ok());
    let Some(text) = call.header(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let Some((first, length)) = range::chunk(text) else {
        return Err(Fault::new(
            Code::BlobUploadInvalid,
            format!("invalid Content-Range: {text:?}"),
        ));
    };
    if first != upload.size() {
        return Err(Fault::new(
            Code::RangeInvalid,
            format!(
                "the chunk begins at byte {first}, but {} bytes have come so far",
                upload.size()
            ),
        )
        .with_header(header::LOCATION, location(upload))
        .with_header(header::RANGE, reached(upload)));
    }
    if sent.is_some_and(|sent| sent != length) {
        return Err(Fault::new(
            Code::SizeInvalid,
            format!("Content-Range tells of {length} bytes, Content-Length of others"),
        ));
    }
    Ok(Some(length))
}

/// Receives the request's body. With `expected`, exactly so many bytes must come, or none counts.
async fn bytes_of(
    call: Call,
    upload: Upload,
    turn: &Turn,
    expected: Option<u64>,
) -> (Option<Upload>, Reply<()>) {
    let room = call
        .service
        .settings
        .blob_max
        .get()
        .saturating_sub(upload.size());
    let limit = expected.unwrap_or(room).min(room);
    let service = call.service.clone();
    let mark = upload.mark();
    // A task of its own: a connection that goes away does not take the upload along.
    let receiving = tokio::spawn(receive(upload, call.request.into_body(), limit));
    let (upload, received) = match receiving.await {
        Ok(received) => received,
        Err(e) => (
            None,
            Err(Fault::internal(
                format_args!("upload {} ended early", turn.id()),
                e,
            )),
        ),
    };
    let wrong = match (&received, expected) {
        (Ok(n), Some(expected)) if *n != expected => Some(Fault::new(
            Code::SizeInvalid,
            format!("{n} bytes came where Content-Range tells of {expected}"),
        )),
        _ => None,
    };
    match (upload, wrong) {
        (Some(mut upload), Some(fault)) => {
            let rewound = upload.rewind(mark);
            (Some(upload), rewound.and(Err(fault)))
        }
        (upload, _) => (
            upload,
            received.map(|n| metrics::add(&service.metrics.received, n)),
        ),
    }
}

/// `PUT`: the last bytes, if any, and the digest of all.
pub(crate) async fn complete(call: Call, repository: String, id: String) -> Reply<Answer> {
    let digest = match call.query.get("digest") {
        Some(text) => parse_digest(text)?,
        None => {
            return Err(Fault::new(
                Code::DigestInvalid,
                "the digest parameter is missing",
            ));
        }
    };
    let (upload, turn) = sessions::take(&call.service, &repository, &id).await?;
    last_bytes(call, upload, turn, digest).await
}

async fn last_bytes(call: Call, upload: Upload, turn: Turn, digest: Digest) -> Reply<Answer> {
    let expected = match expected_length(&call, &upload) {
        Ok(expected) => expected,
        Err(fault) => {
            turn.give_back(upload);
            return Err(fault);
        }
    };
    let service = call.service.clone();
    let mut event = Origin::of(&call).event(Action::Push, &upload.repository);
    let (upload, received) = bytes_of(call, upload, &turn, expected).await;
    let Some(upload) = upload else {
        return Err(received
            .err()
            .unwrap_or_else(|| Fault::internal("the upload was lost", turn.id())));
    };
    if let Err(fault) = received {
        // The fault is what the client must know.
        let _ = give_back(&service, upload, turn).await;
        return Err(fault);
    }
    let repository = upload.repository.clone();
    let of = digest.clone();
    event.digest = Some(digest.to_string());
    event.size = Some(upload.size());
    // The upload ends here: bytes that turn out to be wrong are no good for another try.
    service
        .blocking(move |service| {
            let published = commit(service, upload, &of);
            drop(turn);
            if published.is_ok() {
                service.events.tell(event);
            }
            published
        })
        .await?;
    Ok(created(&repository, &digest))
}

fn commit(service: &Service, upload: Upload, digest: &Digest) -> Reply<()> {
    let (repository, size) = (upload.repository.clone(), upload.size());
    service.storage.commit(upload, digest, |tx| {
        policy::check_quota(&service.settings.quotas, tx, &repository, digest, size)
    })
}
