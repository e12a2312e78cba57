//! What can go wrong in the store: a kind out of seven, and a text that names its subject.

use std::fmt::Display;
use std::io;

use serde::{Deserialize, Serialize};

/// How a caller should answer for an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The blob, layer, image or snapshot is not there.
    NotFound,
    /// Something else needs it, or the name is taken.
    Conflict,
    /// What came from outside is not what it should be: a digest, a document, an archive.
    Invalid,
    /// A short ID that begins the ID of several images.
    Ambiguous,
    /// The disk (or quota) is full.
    NoSpace,
    /// A format or kernel feature that is not there.
    Unsupported,
    /// Anything else.
    Internal,
}

/// An error of the store. Its text holds the cause; nothing has to be added by who shows it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with the text the user will read.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// [`ErrorKind::NotFound`] with this text.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Invalid`] with this text.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A failed system call: what was attempted, on what. A full disk is told apart, and an error of
    /// the store that travelled inside an [`io::Error`] (through a reader, say) comes out as it was.
    pub fn io(what: impl Display, error: impl Into<io::Error>) -> Self {
        let error = match error.into().downcast::<Error>() {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            // What a reader says of a stream that is not what it claims to be.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Invalid,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, format!("{what}: {error}"))
    }

    /// How to answer for it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_a_reader() {
        let full = Error::io("cannot write x", io::Error::from_raw_os_error(28));
        assert_eq!(full.kind(), ErrorKind::NoSpace);
        assert!(full.to_string().starts_with("cannot write x: "));
        let through = Error::io("cannot read y", io::Error::from(full));
        assert_eq!(through.kind(), ErrorKind::NoSpace);
        assert!(through.to_string().starts_with("cannot write x: "));
    }
}
