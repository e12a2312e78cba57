//! `/v2/NAME/manifests/REFERENCE`

use std::sync::Arc;

use berth_spec::Digest;
use berth_spec::oci::image::MANIFEST_MAX;
use berth_store::hash::{digest_with, sha256};
use http::{StatusCode, header};

use super::blobs::{is_match, refuse_unless_deletable};
use super::cache::{self, Freshness};
use super::dispatch::Call;
use super::document::{self, Document};
use super::events::{Action, Origin};
use super::fault::{Code, Fault, Reply};
use super::http::answer::{Answer, CONTENT_DIGEST, OCI_SUBJECT, OCI_TAG};
use super::http::body::Body;
use super::memory::Kept;
use super::name;
use super::policy;
use super::receive::{discard, small};
use super::record::{self, Manifest, NewManifest, Transaction};
use super::route::Target;
use super::service::Service;

/// Tags that one push may set.
const TAGS_MAX: usize = 64;

/// `GET` and `HEAD`.
pub(crate) async fn get(call: &Call, repository: String, target: Target) -> Reply<Answer> {
    let freshness = match &call.cached {
        Some(cached) => cache::refresh(call, cached, &target).await?,
        None => Freshness::Fresh,
    };
    let kept = find(&call.service, &repository, &target).await?;
    pulled(call, &repository, &target, &kept);
    let answer = describe(call, &kept);
    Ok(match freshness {
        Freshness::Fresh => answer,
        Freshness::Stale => answer.header(
            header::WARNING,
            "299 - \"the upstream registry does not answer: this may be out of date\"",
        ),
    })
}

/// Remembers a pull, and tells of it where somebody wants to hear.
fn pulled(call: &Call, repository: &str, target: &Target, kept: &Kept) {
    if call.is_head() {
        return;
    }
    let digest = &kept.manifest.digest;
    if kept.is_noteworthy() {
        call.service.pulls.note(repository, digest);
    }
    if call.service.events.wants(Action::Pull) {
        let mut event = Origin::of(call).event(Action::Pull, repository);
        event.tag = tag_of(target);
        event.digest = Some(digest.to_string());
        event.media_type = Some(kept.manifest.media_type.clone());
        event.size = Some(kept.manifest.bytes.len() as u64);
        call.service.events.tell(event);
    }
}

fn tag_of(target: &Target) -> Option<String> {
    match target {
        Target::Tag(tag) => Some(tag.clone()),
        Target::Digest(_) => None,
    }
}

fn describe(call: &Call, kept: &Kept) -> Answer {
    let manifest = &kept.manifest;
    let etag = format!("\"{}\"", manifest.digest);
    let answer = |status| {
        Answer::new(status)
            .header(header::CONTENT_TYPE, &manifest.media_type)
            .header(CONTENT_DIGEST, manifest.digest.as_str())
            .header(header::ETAG, &etag)
    };
    if is_match(call.header(header::IF_NONE_MATCH), &etag) {
        return answer(StatusCode::NOT_MODIFIED);
    }
    answer(StatusCode::OK).body(Body::Whole(manifest.bytes.clone()))
}

/// The manifest, from memory or the record.
pub(crate) async fn find(
    service: &Arc<Service>,
    repository: &str,
    target: &Target,
) -> Reply<Arc<Kept>> {
    let since = match service.memory.get(repository, target) {
        Ok(kept) => return Ok(kept),
        Err(since) => since,
    };
    let (name, wanted) = (repository.to_owned(), target.clone());
    service
        .blocking(move |service| {
            let found = service.storage.record.read(|c| {
                let digest = match &wanted {
                    Target::Digest(digest) => Some(digest.clone()),
                    Target::Tag(tag) => record::tags::get(c, &name, tag)?,
                };
                match digest {
                    Some(digest) => record::manifests::get(c, &name, &digest),
                    None => Ok(None),
                }
            })?;
            match found {
                Some(manifest) => Ok(service.memory.keep(since, &name, &wanted, manifest)),
                None => match engines(service, &name, &wanted)? {
                    // The engine tells nobody when a tag moves: it is asked each time.
                    Some(manifest) => Ok(Kept::new(manifest)),
                    None => Err(unknown(&name, &wanted)),
                },
            }
        })
        .await
}

/// What the engine has under this name, where its images are served.
fn engines(service: &Service, repository: &str, target: &Target) -> Reply<Option<Manifest>> {
    match &service.engine {
        Some(engine) => engine.manifest(repository, target),
        None => Ok(None),
    }
}

/// The repository has no such manifest.
pub(crate) fn unknown(repository: &str, target: &Target) -> Fault {
    Fault::new(Code::ManifestUnknown, "manifest unknown")
        .with_detail(serde_json::json!({ "name": repository, "reference": target.as_str() }))
}

/// `PUT`.
pub(crate) async fn put(mut call: Call, repository: String, target: Target) -> Reply<Answer> {
    let length: Option<u64> = call
        .header(header::CONTENT_LENGTH)
        .and_then(|text| text.parse().ok());
    if length.is_some_and(|length| length > MANIFEST_MAX) {
        discard(call.request.body_mut(), 4 * MANIFEST_MAX).await;
        return Err(too_large());
    }
    let bytes = small(call.request.body_mut(), MANIFEST_MAX)
        .await
        .map_err(|fault| match fault.status {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => fault,
        })?;
    let digest = match &target {
        Target::Digest(wanted) => {
            let found = digest_with(wanted.algorithm(), &bytes);
            if found != *wanted {
                return Err(Fault::new(
                    Code::DigestInvalid,
                    format!("the manifest has the digest {found}, not {wanted}"),
                ));
            }
            found
        }
        Target::Tag(_) => sha256(&bytes),
    };
    let tags = tags_of(&call, &target)?;
    let document = document::parse(&bytes, call.header(header::CONTENT_TYPE))?;
    let subject = document.subject.clone();
    let manifest = NewManifest {
        digest: digest.clone(),
        media_type: document.media_type.clone(),
        bytes,
        subject: subject.clone(),
        artifact_type: document.artifact_type.clone(),
        annotations: document.annotations.clone(),
        blobs: document.blobs.iter().map(|(d, _)| d.clone()).collect(),
        manifests: document.manifests.iter().map(|(d, _)| d.clone()).collect(),
        pushed_by: call.caller.identity.name().to_owned(),
    };
    let (name, to_set) = (repository.clone(), tags.clone());
    let mut event = Origin::of(&call).event(Action::Push, &repository);
    event.tag = tags.first().cloned();
    event.digest = Some(digest.to_string());
    event.media_type = Some(manifest.media_type.clone());
    event.size = Some(manifest.bytes.len() as u64);
    call.service
        .blocking(move |service| {
            store(service, &name, &document, &manifest, &to_set)?;
            service.events.tell(event);
            Ok(())
        })
        .await?;
    let mut answer = Answer::new(StatusCode::CREATED)
        .header(
            header::LOCATION,
            format!("/v2/{repository}/manifests/{digest}"),
        )
        .header(CONTENT_DIGEST, digest.as_str());
    if let Some(subject) = subject {
        answer = answer.header(OCI_SUBJECT, subject.as_str());
    }
    if matches!(target, Target::Digest(_)) {
        for tag in &tags {
            answer = answer.header(OCI_TAG, tag);
        }
    }
    Ok(answer)
}

fn too_large() -> Fault {
    Fault::new(
        Code::ManifestInvalid,
        format!("a manifest has {MANIFEST_MAX} bytes at most"),
    )
    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// The tags that a push sets: the one it names, or those of its `tag` parameters.
fn tags_of(call: &Call, target: &Target) -> Reply<Vec<String>> {
    if let Target::Tag(tag) = target {
        return Ok(vec![tag.clone()]);
    }
    let tags: Vec<String> = call.query.all("tag").map(str::to_owned).collect();
    if tags.len() > TAGS_MAX {
        return Err(Fault::new(
            Code::TagInvalid,
            format!("more than {TAGS_MAX} tags at once"),
        ));
    }
    match tags.iter().find(|tag| !name::is_tag(tag)) {
        Some(bad) => Err(Fault::new(
            Code::TagInvalid,
            format!("invalid tag: {bad:?}"),
        )),
        None => Ok(tags),
    }
}

/// Records a manifest whose needs are all there, and its tags, in one transaction.
pub(crate) fn store(
    service: &Service,
    repository: &str,
    document: &Document,
    manifest: &NewManifest,
    tags: &[String],
) -> Reply<()> {
    service.storage.record.write(|tx| {
        check_needs(service, tx, repository, document)?;
        record::manifests::add(tx, repository, manifest)?;
        for tag in tags {
            let immutable = &service.settings.immutable;
            policy::check_tag(immutable, tx, repository, tag, &manifest.digest)?;
            record::tags::set(tx, repository, tag, &manifest.digest)?;
        }
        Ok(())
    })?;
    service.memory.forget(repository);
    Ok(())
}

fn check_needs(
    service: &Service,
    tx: &Transaction,
    repository: &str,
    document: &Document,
) -> Reply<()> {
    for (digest, size) in &document.blobs {
        match record::blobs::size_in(tx, repository, digest)? {
            None if service.settings.sparse => {}
            found => fits(digest, *size, found, "blob")?,
        }
    }
    for (digest, size) in &document.manifests {
        match record::manifests::size(tx, repository, digest)? {
            None if service.settings.sparse => {}
            found => fits(digest, *size, found, "manifest")?,
        }
    }
    Ok(())
}

fn fits(digest: &Digest, size: u64, found: Option<u64>, what: &str) -> Reply<()> {
    match found {
        Some(found) if found == size => Ok(()),
        Some(found) => Err(Fault::new(
            Code::ManifestInvalid,
            format!(
                "manifest invalid: {what} {digest} has {found} bytes, its descriptor says {size}"
            ),
        )),
        None => Err(Fault::new(
            Code::ManifestBlobUnknown,
            format!("manifest references a {what} unknown to the repository: {digest}"),
        )
        .with_detail(serde_json::json!({ "digest": digest }))),
    }
}

/// `DELETE`: a tag alone, or a manifest with its tags.
pub(crate) async fn delete(call: &Call, repository: String, target: Target) -> Reply<Answer> {
    refuse_unless_deletable(&call.service)?;
    let mut event = Origin::of(call).event(Action::Delete, &repository);
    match &target {
        Target::Tag(tag) => event.tag = Some(tag.clone()),
        Target::Digest(digest) => event.digest = Some(digest.to_string()),
    }
    call.service
        .blocking(move |service| {
            remove(service, &repository, &target)?;
            service.events.tell(event);
            Ok(Answer::new(StatusCode::ACCEPTED))
        })
        .await
}

fn remove(service: &Service, repository: &str, target: &Target) -> Reply<()> {
    let removed = service.storage.record.write(|tx| {
        refuse_if_immutable(service, tx, repository, target)?;
        Ok(match target {
            Target::Tag(tag) => record::tags::remove(tx, repository, tag)?.is_some(),
            Target::Digest(digest) => record::manifests::remove(tx, repository, digest)?.is_some(),
        })
    })?;
    service.memory.forget(repository);
    match removed {
        true => Ok(()),
        false => Err(unknown(repository, target)),
    }
}

/// An immutable tag stays, and so does what it means.
fn refuse_if_immutable(
    service: &Service,
    tx: &Transaction,
    repository: &str,
    target: &Target,
) -> Reply<()> {
    let tags = match target {
        Target::Tag(tag) => vec![tag.clone()],
        Target::Digest(digest) => record::tags::of(tx, repository, digest)?,
    };
    let immutable = &service.settings.immutable;
    let held = tags
        .iter()
        .find(|tag| policy::is_immutable(immutable, repository, tag));
    match held {
        Some(tag) => Err(policy::immutable(repository, tag)),
        None => Ok(()),
    }
}
