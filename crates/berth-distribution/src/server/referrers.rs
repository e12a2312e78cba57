//! `/v2/NAME/referrers/DIGEST`: what refers to a manifest (distribution-spec 1.1, "Listing
//! Referrers").

use berth_spec::Digest;
use berth_spec::oci::image::media_type::OCI_INDEX;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::cache;
use super::dispatch::Call;
use super::fault::Reply;
use super::http::answer::{Answer, OCI_FILTERS};
use super::paging::Page;
use super::record::manifests::{self, Referrer};
use super::route::percent::encode;

pub(crate) async fn list(call: &Call, repository: String, subject: Digest) -> Reply<Answer> {
    if let Some(cached) = &call.cached
        && let Some(answer) = cache::referrers(call, cached, &subject).await?
    {
        return Ok(answer);
    }
    let page = Page::of(&call.query)?;
    let filter = call
        .query
        .get("artifactType")
        .filter(|t| !t.is_empty())
        .map(str::to_owned);
    let (name, of, wanted) = (repository.clone(), subject.clone(), filter.clone());
    let (last, count) = (page.last.clone(), page.look_for());
    let mut found = call
        .service
        .blocking(move |service| {
            service
                .storage
                .record
                .read(|c| manifests::referrers(c, &name, &of, wanted.as_deref(), &last, count))
        })
        .await?;
    let next = page.cut(&mut found, |r| r.digest.to_string());
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": found.iter().map(entry).collect::<Vec<_>>(),
    });
    let mut answer = Answer::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, OCI_INDEX)
        .body(index.to_string().into_bytes());
    let mut more = String::new();
    if let Some(filter) = filter {
        answer = answer.header(OCI_FILTERS, "artifactType");
        more = format!("&artifactType={}", encode(&filter));
    }
    let path = format!("/v2/{repository}/referrers/{subject}");
    Ok(page.link(&path, next, &more, answer))
}

fn entry(referrer: &Referrer) -> Value {
    let mut entry = json!({
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
    });
    if !referrer.artifact_type.is_empty() {
        entry["artifactType"] = referrer.artifact_type.clone().into();
    }
    if !referrer.annotations.is_empty() {
        entry["annotations"] = json!(referrer.annotations);
    }
    entry
}
