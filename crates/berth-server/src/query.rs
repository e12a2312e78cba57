//! Query parameters in Docker's reading: booleans are anything but a few words, names repeat.

use axum::extract::FromRequestParts;
use berth_engine::Filters;
use berth_spec::docker::build::boolean;
use http::request::Parts;

use crate::error::{ApiError, Reply};

/// Decoded pairs in the order they came.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    /// Reads `a=1&b=%20`.
    pub fn parse(text: &str) -> Self {
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name), decode(value))
            })
            .collect();
        Self(pairs)
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The first value of `name`, owned; empty where there is none.
    pub fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// The first value of `name` unless it is empty.
    pub fn non_empty(&self, name: &str) -> Option<String> {
        self.get(name).filter(|v| !v.is_empty()).map(str::to_owned)
    }

    /// All values of `name`.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
            .collect()
    }

    /// Whether `name` is given and true.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(boolean)
    }

    /// The same where absence means `default`.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, boolean)
    }

    /// A number, if one is given.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Reply<Option<T>> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiError::bad_request(format!("invalid value {text:?} of query parameter {name}"))
            }),
        }
    }

    /// The pairs, for readers of a whole query.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The `filters` parameter.
    pub fn filters(&self) -> Reply<Filters> {
        Ok(Filters::parse(self.get("filters").unwrap_or_default())?)
    }
}

/// `%XX` and `+`; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], escaped) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        let query = Query::parse("a=1&b=x%20y+z&t=1&t=2&f=false&bad=%zz");
        assert_eq!(query.get("b"), Some("x y z"));
        assert_eq!(query.all("t"), ["1", "2"]);
        assert!(query.flag("a") && !query.flag("f") && !query.flag("none"));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(query.number::<u32>("b").is_err());
    }
}
