//! `/v2/NAME/tags/list`

use http::StatusCode;

use super::cache;
use super::dispatch::Call;
use super::fault::{Code, Fault, Reply};
use super::http::answer::Answer;
use super::paging::Page;
use super::record;

pub(crate) async fn list(call: &Call, repository: String) -> Reply<Answer> {
    if let Some(cached) = &call.cached
        && let Some(answer) = cache::tags(call, cached).await?
    {
        return Ok(answer);
    }
    let page = Page::of(&call.query)?;
    let (name, last, count) = (repository.clone(), page.last.clone(), page.look_for());
    let (mut known, mut tags) = call
        .service
        .blocking(move |service| {
            service.storage.record.read(|c| {
                Ok((
                    record::has_repository(c, &name)?,
                    record::tags::list(c, &name, &last, count)?,
                ))
            })
        })
        .await?;
    if call.service.engine.is_some() {
        let (name, last) = (repository.clone(), page.last.clone());
        let engines = call
            .service
            .blocking(move |service| match &service.engine {
                Some(engine) => engine.tags(&name),
                None => Ok(Vec::new()),
            })
            .await?;
        known |= !engines.is_empty();
        tags.extend(engines.into_iter().filter(|tag| *tag > last));
        tags.sort();
        tags.dedup();
    }
    if !known {
        return Err(unknown(&repository));
    }
    let next = page.cut(&mut tags, String::clone);
    let answer =
        Answer::new(StatusCode::OK).json(&serde_json::json!({ "name": repository, "tags": tags }));
    Ok(page.link(&format!("/v2/{repository}/tags/list"), next, "", answer))
}

/// Nothing was ever stored under this name.
pub(crate) fn unknown(repository: &str) -> Fault {
    Fault::new(
        Code::NameUnknown,
        format!("repository name not known to registry: {repository}"),
    )
    .with_detail(serde_json::json!({ "name": repository }))
}
