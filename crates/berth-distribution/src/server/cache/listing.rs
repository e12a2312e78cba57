//! Lists of a cached repository: upstream's, else what is here.

use berth_spec::Digest;
use berth_spec::oci::image::media_type::OCI_INDEX;
use http::{Method, StatusCode, header};

use super::Cached;
use crate::failure::read_capped;
use crate::manifest::pull_scope;
use crate::server::dispatch::Call;
use crate::server::fault::Reply;
use crate::server::http::answer::Answer;
use crate::server::paging::Page;

/// Bytes that a list of referrers may have.
const LIST_MAX: u64 = 4 << 20;

/// The tags that upstream has; nothing where it does not say.
pub(crate) async fn tags(call: &Call, cached: &Cached) -> Reply<Option<Answer>> {
    let upstream = call.service.caches.upstream(cached);
    let reference = upstream.reference(cached)?;
    let credentials = upstream.credentials();
    let Ok(all) = upstream.client.tags(&reference, credentials.as_ref()).await else {
        return Ok(None);
    };
    let page = Page::of(&call.query)?;
    let mut tags: Vec<_> = all
        .into_iter()
        .filter(|tag| *tag > page.last)
        .take(page.look_for())
        .collect();
    let next = page.cut(&mut tags, String::clone);
    let answer =
        Answer::new(StatusCode::OK).json(&serde_json::json!({ "name": cached.here, "tags": tags }));
    let path = format!("/v2/{}/tags/list", cached.here);
    Ok(Some(page.link(&path, next, "", answer)))
}

/// The referrers that upstream has; nothing where it does not say.
pub(crate) async fn referrers(
    call: &Call,
    cached: &Cached,
    subject: &Digest,
) -> Reply<Option<Answer>> {
    let upstream = call.service.caches.upstream(cached);
    let reference = upstream.reference(cached)?;
    let Ok(registry) = upstream.connect(&reference).await else {
        return Ok(None);
    };
    let path = format!("/v2/{}/referrers/{subject}", reference.path());
    let sent = registry
        .send(Method::GET, &path, &pull_scope(&reference), |r| r)
        .await;
    let Some(response) = sent.ok().filter(|r| r.status() == StatusCode::OK) else {
        return Ok(None);
    };
    // Filtering is the client's where nobody says that it was done.
    Ok(read_capped(response, LIST_MAX).await.ok().map(|body| {
        Answer::new(StatusCode::OK)
            .header(header::CONTENT_TYPE, OCI_INDEX)
            .body(body)
    }))
}
