//! What an answer that is no success means, and why there was no answer at all, in the words that
//! Docker's users know (Go's network errors, distribution's error codes).

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;

use crate::{Error, ErrorKind, Result};

/// Bytes of an error or token document that are read at most.
pub(crate) const SMALL_MAX: u64 = 1 << 20;
/// Characters of a registry's own words that are passed on.
const WORDS_MAX: usize = 1024;

/// The body, or an error where it is longer than `limit` bytes.
pub(crate) async fn read_capped(mut response: Response, limit: u64) -> Result<Vec<u8>> {
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| unreachable(&Method::GET, url.as_str(), e))?
    {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{url}: the answer is longer than {limit} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Errors as a registry words them (distribution-spec, "Error Codes").
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn patience(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = then.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// The registry's error codes, as they came: `MANIFEST_UNKNOWN`.
    pub(crate) codes: Vec<String>,
    /// Its words, or ours where it has none.
    pub(crate) text: String,
    /// How long it asks us to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// Reads what the registry says.
    pub(crate) async fn read(response: Response) -> Self {
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|v| patience(v.to_str().ok()?.trim()));
        // A body that cannot be read says nothing.
        let body = read_capped(response, SMALL_MAX).await.unwrap_or_default();
        let entries = serde_json::from_slice::<ErrorBody>(&body).map_or(Vec::new(), |b| b.errors);
        let mut text = entries.iter().map(words).collect::<Vec<_>>().join("\n");
        if text.is_empty() {
            text = format!("the registry answered {status}");
        }
        if let Some((end, _)) = text.char_indices().nth(WORDS_MAX) {
            text.truncate(end);
        }
        Self {
            status,
            codes: entries.into_iter().map(|e| e.code).collect(),
            text,
            retry_after,
        }
    }

    /// Whether the registry named this code.
    pub(crate) fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|c| c == code)
    }

    /// The error, with `what` in front of it if there is anything to say.
    pub(crate) fn into_error(self, what: &str) -> Error {
        let kind = match self.status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Unauthorized,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
            s if s.is_client_error() => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        let text = if what.is_empty() {
            self.text
        } else {
            format!("{what}: {}", self.text)
        };
        Error::new(kind, text).with_retry_after(self.retry_after)
    }
}

/// `denied: requested access to the resource is denied`.
fn words(entry: &ErrorEntry) -> String {
    let code = entry.code.to_lowercase().replace('_', " ");
    match (code.is_empty(), entry.message.is_empty()) {
        (_, true) => code,
        (true, false) => entry.message.clone(),
        (false, false) => format!("{code}: {}", entry.message),
    }
}

/// A failure to speak at all: `Get "https://host/v2/": dial tcp …: connect: connection refused`.
pub(crate) fn unreachable(method: &Method, url: &str, error: reqwest::Error) -> Error {
    let parsed = Url::parse(url).ok();
    let reason = reason(&error, parsed.as_ref());
    Error::new(
        ErrorKind::Unavailable,
        format!("{} \"{}\": {reason}", title(method), without_secrets(url)),
    )
    .with_source(error.without_url())
}

/// Go's spelling of a method in errors: `Get`.
pub(crate) fn title(method: &Method) -> String {
    let name = method.as_str();
    name[..1].to_owned() + &name[1..].to_lowercase()
}

/// Upload and redirect URLs carry signatures in their query.
fn without_secrets(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}

fn reason(error: &reqwest::Error, url: Option<&Url>) -> String {
    let mut innermost = String::new();
    let mut system = None;
    let mut source: Option<&dyn StdError> = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && io.raw_os_error().is_some()
        {
            system = Some(go_words(io));
        }
        innermost = inner.to_string();
        source = inner.source();
    }
    let peer = url.map_or(String::new(), |u| {
        let port = u.port_or_known_default().unwrap_or(0);
        format!("{}:{port}", u.host_str().unwrap_or_default())
    });
    if error.is_connect() {
        if error.is_timeout() {
            return format!("dial tcp {peer}: i/o timeout");
        }
        if let Some(system) = system {
            return format!("dial tcp {peer}: connect: {system}");
        }
        if innermost.contains("lookup") || innermost.contains("dns") {
            let host = url.and_then(Url::host_str).unwrap_or_default();
            return format!("dial tcp: lookup {host}: no such host");
        }
        if innermost.contains("InvalidContentType") {
            return "http: server gave HTTP response to HTTPS client".into();
        }
        return format!("tls: failed to verify certificate: {innermost}")
            .replace("tls: failed to verify certificate: tls: ", "tls: ");
    }
    if error.is_timeout() {
        return "i/o timeout".into();
    }
    match system {
        Some(system) => system,
        None if innermost.is_empty() => error.to_string(),
        None => innermost,
    }
}

/// The system's words as Go writes them: lower case, without the number.
fn go_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(&text[..], |(t, _)| t);
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_number_or_a_date() {
        assert_eq!(patience("7"), Some(Duration::from_secs(7)));
        let past = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(patience(past), Some(Duration::ZERO));
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
        let text = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let wait = patience(&text).unwrap();
        assert!(wait.as_secs() > 3500 && wait.as_secs() <= 3600, "{wait:?}");
        assert_eq!(patience("soon"), None);
    }
}
