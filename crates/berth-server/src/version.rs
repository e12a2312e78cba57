//! The optional `/v1.xx` in front of every path.

use berth_spec::docker::{API_VERSION, MIN_API_VERSION};
use http::Uri;

use crate::error::ApiError;

/// A version of the API, comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u32, pub u32);

impl ApiVersion {
    /// Reads `1.43`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let digits =
            |t: &str| !t.is_empty() && t.len() < 6 && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(major) || !digits(minor) {
            return None;
        }
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The newest one spoken here.
    pub fn newest() -> Self {
        Self::parse(API_VERSION).unwrap_or(Self(1, 50))
    }
}

/// Splits a path into its version (the newest where none is named) and the rest.
///
/// A path that begins with something else than a version is left as it is.
pub fn split(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let newest = ApiVersion::newest();
    let Some(rest) = path.strip_prefix("/v") else {
        return Ok((newest, path));
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some(version) = ApiVersion::parse(&rest[..end]) else {
        return Ok((newest, path));
    };
    let oldest = ApiVersion::parse(MIN_API_VERSION).unwrap_or(ApiVersion(1, 24));
    let asked = &rest[..end];
    if version < oldest {
        return Err(ApiError::bad_request(format!(
            "client version {asked} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your client to a newer version"
        )));
    }
    if version > newest {
        return Err(ApiError::bad_request(format!(
            "client version {asked} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    Ok((version, if end == rest.len() { "/" } else { &rest[end..] }))
}

/// The URI with the path replaced by `rest`.
pub fn strip(uri: &Uri, rest: &str) -> Uri {
    let path = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    // A suffix of a valid path that begins with a slash is a valid path.
    path.parse().unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (path, version, rest) in [
            ("/_ping", (1, 50), "/_ping"),
            ("/v1.43/containers/json", (1, 43), "/containers/json"),
            ("/v1.50", (1, 50), "/"),
            ("/volumes", (1, 50), "/volumes"),
            ("/v1/x", (1, 50), "/v1/x"),
            ("/v1.x/y", (1, 50), "/v1.x/y"),
        ] {
            let (got, left) = split(path).unwrap();
            assert_eq!((got.0, got.1, left), (version.0, version.1, rest), "{path}");
        }
        assert!(split("/v1.12/info").is_err());
        assert!(split("/v1.99/info").is_err());
        assert!(split("/v2.0/info").is_err());
    }
}
