//! Image references: `[host[:port]/]path[:tag][@digest]`, with Docker's defaults.
//!
//! The grammar is that of the `distribution/reference` package: a *familiar* name is what people
//! type (`python:3.9`), the *normalized* one is what a registry is asked for
//! (`docker.io/library/python:3.9`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// The registry that a name without a host belongs to.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Where that registry really answers.
pub const DEFAULT_REGISTRY: &str = "registry-1.docker.io";
/// The tag of a reference that names neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// Why a text is no image reference; texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
}

/// A normalized reference. Neither tag nor digest may be present: see [`Reference::or_latest`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port, `docker.io` by default.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path below the domain, with `library/` where Docker Hub wants it.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it: no `docker.io/library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain == DEFAULT_DOMAIN {
            self.path
                .strip_prefix("library/")
                .unwrap_or(&self.path)
                .to_owned()
        } else {
            self.name()
        }
    }

    /// The whole reference as people write it.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// The host (and port) to connect to.
    pub fn registry_host(&self) -> &str {
        if self.domain == DEFAULT_DOMAIN {
            DEFAULT_REGISTRY
        } else {
            &self.domain
        }
    }

    /// The same, with the tag `latest` if it names neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ParseReferenceError> {
        if !is_tag(tag) {
            return Err(ParseReferenceError::Format);
        }
        Ok(Reference {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository without its tag.
    #[must_use]
    pub fn without_tag(&self) -> Self {
        Reference {
            tag: None,
            ..self.clone()
        }
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > NAME_MAX + TAG_MAX + 160 {
            return Err(ParseReferenceError::TooLong);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseReferenceError::LooksLikeId(text.into()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse().map_err(|_| ParseReferenceError::Format)?),
            ),
            None => (text, None),
        };
        // A colon after the last slash begins the tag; before it, a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(colon) => (
                &rest[..name_end + colon],
                Some(&rest[name_end + colon + 1..]),
            ),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ParseReferenceError::Format);
        }
        let (domain, remainder) = split_domain(name);
        if remainder.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseReferenceError::Uppercase(remainder.into()));
        }
        if !is_domain(&domain) || !remainder.split('/').all(is_path_component) {
            return Err(ParseReferenceError::Format);
        }
        let path = if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
            format!("library/{remainder}")
        } else {
            remainder.to_owned()
        };
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(ParseReferenceError::TooLong);
        }
        Ok(Reference {
            domain,
            path,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// The first component is a host if it looks like one: a dot, a colon, `localhost` or upper case.
fn split_domain(name: &str) -> (String, &str) {
    if let Some((first, rest)) = name.split_once('/') {
        let looks_like_host = first.contains(['.', ':'])
            || first == "localhost"
            || first.bytes().any(|b| b.is_ascii_uppercase());
        if looks_like_host {
            let domain = if first == "index.docker.io" {
                DEFAULT_DOMAIN
            } else {
                first
            };
            return (domain.to_owned(), rest);
        }
    }
    (DEFAULT_DOMAIN.to_owned(), name)
}

fn is_domain(text: &str) -> bool {
    let (host, port) = if let Some(after) = text.strip_prefix('[') {
        let Some((address, rest)) = after.split_once(']') else {
            return false;
        };
        let address_ok =
            !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        if !address_ok {
            return false;
        }
        match rest.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if rest.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    let host_ok = host.is_none_or(|host| {
        host.split('.').all(|label| {
            let b = label.as_bytes();
            !b.is_empty()
                && b[0].is_ascii_alphanumeric()
                && b[b.len() - 1].is_ascii_alphanumeric()
                && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
        })
    });
    host_ok && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    let mut i = 0;
    while i < bytes.len() {
        if alnum(bytes[i]) {
            i += 1;
            continue;
        }
        let start = i;
        while i < bytes.len() && !alnum(bytes[i]) {
            i += 1;
        }
        let separator = &bytes[start..i];
        let ok = matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-');
        if !ok {
            return false;
        }
    }
    true
}

fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= TAG_MAX
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes() {
        let hex = "b".repeat(64);
        let cases = [
            ("python", "docker.io/library/python", "python"),
            (
                "python:3.9-slim-buster",
                "docker.io/library/python:3.9-slim-buster",
                "python:3.9-slim-buster",
            ),
            ("user/app", "docker.io/user/app", "user/app"),
            ("index.docker.io/user/app", "docker.io/user/app", "user/app"),
            (
                "docker.io/python:1",
                "docker.io/library/python:1",
                "python:1",
            ),
            ("localhost/x", "localhost/x", "localhost/x"),
            (
                "localhost:5000/x:y",
                "localhost:5000/x:y",
                "localhost:5000/x:y",
            ),
            (
                "127.0.0.1:5000/a/b",
                "127.0.0.1:5000/a/b",
                "127.0.0.1:5000/a/b",
            ),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            (
                "ghcr.io/o/n__m.x-y",
                "ghcr.io/o/n__m.x-y",
                "ghcr.io/o/n__m.x-y",
            ),
            ("UPPER/x", "UPPER/x", "UPPER/x"),
        ];
        for (text, normal, familiar) in cases {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), normal);
            assert_eq!(reference.familiar(), familiar);
        }
        let pinned: Reference = format!("python:3@sha256:{hex}").parse().unwrap();
        assert_eq!(pinned.tag(), Some("3"));
        assert_eq!(pinned.digest().unwrap().hex(), hex);
        assert_eq!(
            "a".parse::<Reference>().unwrap().or_latest().familiar(),
            "a:latest"
        );
    }

    #[test]
    fn refuses() {
        let id = "a".repeat(64);
        let long = "a".repeat(300);
        for bad in [
            "",
            ":",
            "a:",
            ":tag",
            "a//b",
            "a/",
            "/a",
            "a b",
            "Python",
            "a:b:c",
            "a@sha256:00",
            "a___b",
            "a..b",
            "-a",
            "a-",
            "https://x/y",
            "a:-x",
            "host:port/x",
            &id,
            &long,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
