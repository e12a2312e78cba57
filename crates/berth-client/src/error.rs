//! What can go wrong between a client and an engine, in the words Docker has for it.

use std::io;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    NotRunning {
        /// The address as the user gave it.
        host: String,
    },
    /// The socket is there, and not for this user.
    #[error(
        "permission denied while trying to connect to the Docker daemon socket at {host}: {source}"
    )]
    Permission {
        /// The address as the user gave it.
        host: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Connecting failed otherwise.
    #[error("error during connect: {host}: {message}")]
    Connect {
        /// The address as the user gave it.
        host: String,
        /// What failed.
        message: String,
    },
    /// The engine answered with an error.
    #[error("Error response from daemon: {message}")]
    Engine {
        /// The status of the answer.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// What came back is not what the protocol says.
    #[error("{what}: {message}")]
    Protocol {
        /// Which answer.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// The status of the engine's answer, if it answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Engine { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the engine says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// The engine's words without the prefix; else the whole text.
    pub fn message(&self) -> String {
        match self {
            Error::Engine { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn protocol(what: impl Into<String>, message: impl ToString) -> Self {
        Error::Protocol {
            what: what.into(),
            message: message.to_string(),
        }
    }
}
