//! A user's name and password for one registry.

use std::fmt;

/// A text that never reaches a log or an error: it has no `Display`, and its `Debug` shows nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a client shows to a registry or its token service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The account; empty where an identity token stands alone.
    pub username: String,
    /// Its password or access token.
    pub password: Secret,
    /// An OAuth2 refresh token from an earlier login, used instead of the password.
    pub identity_token: Secret,
    /// A bearer token the caller already holds, sent as it is.
    pub registry_token: Secret,
}

impl Credentials {
    /// A name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: Secret::new(password),
            ..Self::default()
        }
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty()
            && self.password.is_empty()
            && self.identity_token.is_empty()
            && self.registry_token.is_empty()
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}
