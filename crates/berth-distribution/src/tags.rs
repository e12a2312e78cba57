//! The tags of a repository (distribution-spec, "Listing Tags"): what `pull --all-tags` needs.

use std::sync::Arc;

use berth_spec::Reference;
use reqwest::{Method, Response};
use serde::Deserialize;

use crate::client::Shared;
use crate::failure::{Failure, SMALL_MAX, read_capped};
use crate::manifest::pull_scope;
use crate::registry::Registry;
use crate::{Credentials, Error, ErrorKind, Result};

/// Tags that are listed at most, and pages that are asked for.
const TAGS_MAX: usize = 10_000;
const PAGES_MAX: usize = 200;

#[derive(Deserialize)]
struct Page {
    /// Null where there are none.
    tags: Option<Vec<String>>,
}

pub(crate) async fn tags(
    client: &Arc<Shared>,
    reference: &Reference,
    auth: Option<&Credentials>,
) -> Result<Vec<String>> {
    let host = reference.registry_host();
    let registry = Registry::of_host(client, host, auth).await?;
    let mut found = Vec::new();
    let mut next = Some(format!("/v2/{}/tags/list?n=1000", reference.path()));
    for _ in 0..PAGES_MAX {
        let Some(path) = next else {
            break;
        };
        let response = registry
            .send(Method::GET, &path, &pull_scope(reference), |r| r)
            .await?;
        if !response.status().is_success() {
            let failure = Failure::read(response).await;
            return Err(crate::manifest::explain(reference, failure));
        }
        next = next_page(&response);
        let body = read_capped(response, SMALL_MAX).await?;
        let page: Page = serde_json::from_slice(&body)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("{path}: {e}")))?;
        // A tag that is none cannot be pulled either.
        let tags = page.tags.unwrap_or_default();
        found.extend(tags.into_iter().filter(|t| reference.with_tag(t).is_ok()));
        if found.len() >= TAGS_MAX {
            found.truncate(TAGS_MAX);
            break;
        }
    }
    // The specification wants them sorted; not every registry does it.
    found.sort();
    found.dedup();
    Ok(found)
}

/// `Link: </v2/x/tags/list?n=…&last=…>; rel="next"`, on the same registry.
fn next_page(response: &Response) -> Option<String> {
    let link = response.headers().get("link")?.to_str().ok()?;
    let (target, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    let url = response.url().join(target).ok()?;
    let ours = url.origin() == response.url().origin();
    (ours && relation.contains("next")).then(|| url.to_string())
}
