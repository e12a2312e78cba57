//! `/v2/_catalog`: which repositories there are. Not of the specification, but every client's.

use http::StatusCode;

use super::access::{Caller, Verb};
use super::dispatch::Call;
use super::fault::Reply;
use super::http::answer::Answer;
use super::paging::Page;
use super::record;
use super::service::Service;

pub(crate) async fn list(call: &Call) -> Reply<Answer> {
    let page = Page::of(&call.query)?;
    let (last, count) = (page.last.clone(), page.look_for());
    let caller = call.caller.clone();
    let mut repositories = call
        .service
        .blocking(move |service| visible(service, &caller, last, count))
        .await?;
    let next = page.cut(&mut repositories, String::clone);
    let answer =
        Answer::new(StatusCode::OK).json(&serde_json::json!({ "repositories": repositories }));
    Ok(page.link("/v2/_catalog", next, "", answer))
}

/// Up to `count` repositories after `last` that `caller` may pull from.
fn visible(
    service: &Service,
    caller: &Caller,
    mut last: String,
    count: usize,
) -> Reply<Vec<String>> {
    let (first, mut found) = (last.clone(), Vec::new());
    while found.len() < count {
        let names = service
            .storage
            .record
            .read(|c| record::repositories(c, &last, count))?;
        let Some(end) = names.last() else {
            break;
        };
        last = end.clone();
        let allowed = names
            .into_iter()
            .filter(|name| service.access.allows(caller, name, Verb::Pull));
        found.extend(allowed);
    }
    if let Some(engine) = &service.engine {
        let engines = engine.repositories()?.into_iter();
        found
            .extend(engines.filter(|n| *n > first && service.access.allows(caller, n, Verb::Pull)));
        found.sort();
        found.dedup();
    }
    found.truncate(count);
    Ok(found)
}
