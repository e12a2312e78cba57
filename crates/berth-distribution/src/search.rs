//! Search of an index (the Hub's, or that of a registry which has one): the old `GET /v1/search`, which no
//! specification tells of and every client of Docker asks.

use std::sync::Arc;

use berth_spec::docker::image::SearchResult;
use reqwest::Method;
use serde::Deserialize;

use crate::client::Shared;
use crate::failure::{Failure, SMALL_MAX, read_capped, unreachable};
use crate::{Error, ErrorKind, Result, endpoint, token};

/// Where the Hub's is.
const HUB: &str = "index.docker.io";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<SearchEntry>,
}

/// An index leaves members away, or says null.
#[derive(Deserialize)]
struct SearchEntry {
    name: String,
    description: Option<String>,
    star_count: Option<i64>,
    is_official: Option<bool>,
    is_automated: Option<bool>,
}

/// `host/words` asks the index of `host`, other words the Hub's. No credentials go along.
pub(crate) async fn search(
    client: &Arc<Shared>,
    term: &str,
    limit: u32,
) -> Result<Vec<SearchResult>> {
    let (host, words) = split(term);
    let query = token::form(&[("q", words), ("n", &limit.to_string())]);
    let Some(index) = endpoint::of_host(&client.options, host)?.pop() else {
        let why = format!("hosts.toml lets nobody do this for {host}");
        return Err(Error::new(ErrorKind::Invalid, why));
    };
    let mut last = None;
    for endpoint in index.endpoints {
        let url = format!("{}/v1/search?{query}", endpoint.base);
        let request = endpoint.http.get(&url).headers(endpoint.headers.clone());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                last = Some(unreachable(&Method::GET, &url, error));
                continue;
            }
        };
        if !response.status().is_success() {
            let failure = Failure::read(response).await;
            return Err(failure.into_error(&format!("Get \"{url}\"")));
        }
        let body = read_capped(response, SMALL_MAX).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("{url}: {e}")))?;
        return Ok(answer.results.into_iter().map(result).collect());
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Internal, format!("no endpoint for {host}"))))
}

fn result(entry: SearchEntry) -> SearchResult {
    SearchResult {
        name: entry.name,
        description: entry.description.unwrap_or_default(),
        star_count: entry.star_count.unwrap_or(0),
        is_official: entry.is_official.unwrap_or(false),
        is_automated: entry.is_automated.unwrap_or(false),
    }
}

/// The index that is meant, and what is looked for in it.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, words)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | HUB => (HUB, official(words)),
            _ => (host, words),
        },
        _ => (HUB, official(term)),
    }
}

/// The Hub's own images are there without the name of their owner.
fn official(words: &str) -> &str {
    words.strip_prefix("library/").unwrap_or(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_and_words() {
        for (term, split_as) in [
            ("redis", (HUB, "redis")),
            ("library/redis", (HUB, "redis")),
            ("docker.io/library/redis", (HUB, "redis")),
            ("me/redis", (HUB, "me/redis")),
            ("reg.example/me/redis", ("reg.example", "me/redis")),
            ("localhost:5000/x", ("localhost:5000", "x")),
        ] {
            assert_eq!(split(term), split_as, "{term}");
        }
    }
}
