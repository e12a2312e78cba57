//! What can go wrong between a document and a running process.

use serde::{Deserialize, Serialize};

pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The program to run is not there: Docker's exit code 127.
    ProgramNotFound,
    /// The program to run cannot be executed: Docker's exit code 126.
    ProgramNotExecutable,
    /// The document asks for what cannot be, or names something that is not there.
    Invalid,
    /// The container or exec is not running, or its shim has gone.
    Gone,
    /// Something of that name is there already.
    Conflict,
    /// The kernel, the disk, or we ourselves.
    Internal,
}

/// A failure. Its text reads as runc's, for that is what users of Docker know.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    pub(crate) fn gone(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Gone, message)
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same with what was under way put before it.
    pub(crate) fn during(self, what: &str) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }
}

/// Says what was tried when something failed.
pub(crate) trait Context<T> {
    /// Makes it an internal error.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
    /// Makes it an error of the document.
    fn invalid(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::internal(format!("{}: {e}", what())))
    }

    fn invalid(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::invalid(format!("{}: {e}", what())))
    }
}

/// The kernel's words for an error number, without Rust's `(os error 2)`; in lower case, as Go
/// programs print them.
pub(crate) fn errno_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_as_gos() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(errno_text(&error), "no such file or directory");
        let error = Error::invalid("x").during("mounting \"proc\"");
        assert_eq!(error.to_string(), "mounting \"proc\": x");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
