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
    let (known, mut tags) = call
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
