//! A page to look around: repositories, tags, layers, referrers. Static files and two lists; the rest the
//! page asks the distribution API for. It loads nothing from elsewhere and runs no script but its own.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use serde_json::json;

use super::access::{Caller, Verb};
use super::dispatch::Call;
use super::fault::{Code, Fault, Reply};
use super::http::answer::Answer;
use super::paging::Page;
use super::record::statistics::{self, RepositorySummary};
use super::service::Service;
use super::{name, tags};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers what belongs to the page; nothing where `path` does not.
pub(crate) async fn answer(call: &Call) -> Reply<Option<Answer>> {
    let path = call.request.uri().path();
    let file = |kind: &str, text: &'static str| {
        Answer::new(StatusCode::OK)
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONTENT_SECURITY_POLICY, POLICY)
            .header(header::REFERRER_POLICY, "no-referrer")
            .header(header::CACHE_CONTROL, "no-cache")
            .body(super::http::body::Body::Whole(bytes::Bytes::from_static(
                text.as_bytes(),
            )))
    };
    let answer = match path {
        "/" => file("text/html; charset=utf-8", include_str!("index.html")),
        "/page.js" => file("text/javascript; charset=utf-8", include_str!("page.js")),
        "/page.css" => file("text/css; charset=utf-8", include_str!("page.css")),
        "/api/repositories" => repositories(call).await?,
        "/api/tags" => tags_of(call).await?,
        _ => return Ok(None),
    };
    match call.method {
        Method::GET | Method::HEAD => Ok(Some(answer)),
        _ => Err(Fault::new(Code::Unsupported, "the page can only be read")
            .with_header(header::ALLOW, "GET, HEAD")),
    }
}

async fn repositories(call: &Call) -> Reply<Answer> {
    let page = Page::of(&call.query)?;
    let (caller, last, count) = (call.caller.clone(), page.last.clone(), page.look_for());
    let mut found = call
        .service
        .blocking(move |service| visible(service, &caller, last, count))
        .await?;
    let next = page.cut(&mut found, |r| r.name.clone());
    Ok(Answer::new(StatusCode::OK).json(&json!({ "repositories": found, "next": next })))
}

/// Up to `count` repositories after `last` that `caller` may pull from.
fn visible(
    service: &Arc<Service>,
    caller: &Caller,
    mut last: String,
    count: usize,
) -> Reply<Vec<RepositorySummary>> {
    let mut found = Vec::new();
    while found.len() < count {
        let names = service
            .storage
            .record
            .read(|c| statistics::repositories(c, &last, count))?;
        let Some(end) = names.last() else {
            break;
        };
        last = end.name.clone();
        found.extend(
            names
                .into_iter()
                .filter(|r| service.access.allows(caller, &r.name, Verb::Pull)),
        );
    }
    Ok(found)
}

async fn tags_of(call: &Call) -> Reply<Answer> {
    let repository = call.query.get("repository").unwrap_or_default().to_owned();
    if !name::is_repository(&repository) {
        return Err(Fault::new(Code::NameInvalid, "invalid repository name"));
    }
    let access = &call.service.access;
    access.check(&call.caller, &repository, Verb::Pull, || call.base())?;
    let page = Page::of(&call.query)?;
    let (of, last, count) = (repository.clone(), page.last.clone(), page.look_for());
    let mut found = call
        .service
        .blocking(move |service| {
            service
                .storage
                .record
                .read(|c| statistics::tags(c, &of, &last, count))
        })
        .await?;
    if found.is_empty() && page.last.is_empty() {
        return Err(tags::unknown(&repository));
    }
    let next = page.cut(&mut found, |t| t.name.clone());
    Ok(Answer::new(StatusCode::OK).json(&json!({ "tags": found, "next": next })))
}
