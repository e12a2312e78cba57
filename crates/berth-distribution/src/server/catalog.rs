//! `/v2/_catalog`: which repositories there are. Not of the specification, but every client's.

use http::StatusCode;

use super::dispatch::Call;
use super::fault::Reply;
use super::http::answer::Answer;
use super::paging::Page;
use super::record;

pub(crate) async fn list(call: &Call) -> Reply<Answer> {
    let page = Page::of(&call.query)?;
    let (last, count) = (page.last.clone(), page.look_for());
    let mut repositories = call
        .service
        .blocking(move |service| {
            service
                .storage
                .record
                .read(|c| record::repositories(c, &last, count))
        })
        .await?;
    let next = page.cut(&mut repositories, String::clone);
    let answer =
        Answer::new(StatusCode::OK).json(&serde_json::json!({ "repositories": repositories }));
    Ok(page.link("/v2/_catalog", next, "", answer))
}
