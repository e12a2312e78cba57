//! Identifiers: the 64 hexadecimal characters that name containers, networks and execs, and the
//! names that people give them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A container's (network's, exec's) identity: 32 random bytes in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// The identity made of these (random) bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Id(data_encoding::HEXLOWER.encode(bytes))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve characters, as lists show it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// Why a text is no identity or no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    #[error("invalid id {0:?}: expected 64 lower-case hexadecimal characters")]
    Id(String),
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
}

impl FromStr for Id {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Id(text.into()))
        } else {
            Err(ParseIdError::Id(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Id {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a name that a user gives to a container, network or volume: Docker's
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, at most 255 characters. A leading slash is dropped.
pub fn parse_name(text: &str) -> Result<&str, ParseIdError> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && (2..=255).contains(&name.len()) {
        Ok(name)
    } else {
        Err(ParseIdError::Name(name.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["web", "/web", "a1", "a_b.c-d"] {
            assert!(parse_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "a b", "a/b", "é1", "a\n"] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids() {
        let id = Id::from_bytes(&[0xab; 32]);
        assert_eq!(id.as_str().parse::<Id>().unwrap(), id);
        assert!("abc".parse::<Id>().is_err());
        assert!(serde_json::from_str::<Id>("\"../x\"").is_err());
    }
}
