//! What can go wrong between here and a registry, in Docker's words where Docker has words.

use std::time::Duration;

/// How a caller should answer for an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The repository, tag or blob is not there.
    NotFound,
    /// The registry refused the credentials, or wants some.
    Unauthorized,
    /// The registry cannot be reached or answered with an error of its own.
    Unavailable,
    /// What the registry sent is not what its digest, size or media type says.
    Invalid,
    /// The disk is full.
    NoSpace,
    /// Anything else.
    Internal,
}

/// An error of the distribution protocol: a kind and a text that names its subject.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with the text the user will read.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            source: None,
        }
    }

    /// Keeps the error that caused this one.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Keeps how long the registry asked us to wait before the next try.
    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// How long the registry asked us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// How to answer for it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<berth_store::Error> for Error {
    fn from(error: berth_store::Error) -> Self {
        use berth_store::ErrorKind as Store;
        let kind = match error.kind() {
            Store::NotFound => ErrorKind::NotFound,
            Store::Invalid | Store::Unsupported => ErrorKind::Invalid,
            Store::NoSpace => ErrorKind::NoSpace,
            Store::Conflict | Store::Ambiguous | Store::Internal => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}
