//! What can go wrong in a verb: a kind that faces map to their codes, and Docker's text.

/// How a face should answer for an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was named is not there (404).
    NotFound,
    /// The state of an object forbids it, or a name is taken (409).
    Conflict,
    /// The request makes no sense (400).
    Invalid,
    /// The request is understood and refused (403).
    Forbidden,
    /// Nothing had to be done: already started, already stopped (304).
    NotModified,
    /// Credentials are wrong or missing (401).
    Unauthorized,
    /// The disk is full (500, with the reason in the text).
    NoSpace,
    /// Somebody else (a registry) cannot be reached, or this engine does not offer it (503).
    Unavailable,
    /// Not offered by this engine (501).
    NotImplemented,
    /// Anything else (500).
    Internal,
}

/// An error of a verb. Its text is what the user reads and holds the cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of every verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self {
            Self::new(ErrorKind::$kind, message)
        })*
    };
}

impl Error {
    /// An error of `kind` with the text the user will read.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// How to answer for it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same kind, with what was attempted in front of the text.
    #[must_use]
    pub fn context(mut self, attempt: impl std::fmt::Display) -> Self {
        self.message = format!("{attempt}: {}", self.message);
        self
    }

    kinds! {
        /// [`ErrorKind::NotFound`] with this text.
        not_found => NotFound,
        /// [`ErrorKind::Conflict`] with this text.
        conflict => Conflict,
        /// [`ErrorKind::Invalid`] with this text.
        invalid => Invalid,
        /// [`ErrorKind::Forbidden`] with this text.
        forbidden => Forbidden,
        /// [`ErrorKind::NotModified`] with this text.
        not_modified => NotModified,
        /// [`ErrorKind::Internal`] with this text.
        internal => Internal,
        /// [`ErrorKind::NotImplemented`] with this text.
        not_implemented => NotImplemented,
    }

    /// A failed system call: what was attempted, on what. A full disk is told apart.
    pub fn io(attempt: impl std::fmt::Display, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::NoSpace
            }
            _ => ErrorKind::Internal,
        };
        Self::new(kind, format!("{attempt}: {error}"))
    }
}

/// The whole text of an error: itself and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

impl From<berth_store::Error> for Error {
    fn from(error: berth_store::Error) -> Self {
        use berth_store::ErrorKind as Store;
        let kind = match error.kind() {
            Store::NotFound => ErrorKind::NotFound,
            Store::Conflict => ErrorKind::Conflict,
            Store::Invalid | Store::Ambiguous => ErrorKind::Invalid,
            Store::NoSpace => ErrorKind::NoSpace,
            Store::Unsupported => ErrorKind::NotImplemented,
            Store::Internal => ErrorKind::Internal,
        };
        Self::new(kind, chain(&error))
    }
}

impl From<berth_network::Error> for Error {
    fn from(error: berth_network::Error) -> Self {
        use berth_network::ErrorKind as Net;
        let kind = match error.kind() {
            Net::NotFound => ErrorKind::NotFound,
            Net::Conflict => ErrorKind::Conflict,
            Net::Invalid => ErrorKind::Invalid,
            Net::Forbidden => ErrorKind::Forbidden,
            Net::Exhausted | Net::Internal => ErrorKind::Internal,
        };
        Self::new(kind, chain(&error))
    }
}

impl From<berth_distribution::Error> for Error {
    fn from(error: berth_distribution::Error) -> Self {
        use berth_distribution::ErrorKind as Dist;
        let kind = match error.kind() {
            Dist::NotFound => ErrorKind::NotFound,
            Dist::Unauthorized => ErrorKind::Unauthorized,
            Dist::Unavailable | Dist::Internal => ErrorKind::Internal,
            Dist::Invalid => ErrorKind::Invalid,
            Dist::NoSpace => ErrorKind::NoSpace,
        };
        // Its text holds the cause already.
        Self::new(kind, error.to_string())
    }
}
