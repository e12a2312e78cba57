//! What can go wrong in a build, in the classic builder's words.

/// How a caller should answer for an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The Dockerfile, an option or the context is wrong: the user's to correct.
    Invalid,
    /// An image, a stage or a remote context is not there.
    NotFound,
    /// A registry refused the credentials, or wants some.
    Unauthorized,
    /// A registry or a remote context cannot be reached.
    Unavailable,
    /// A `RUN` step ended with an exit code other than 0; [`Error::exit_code`] holds it.
    StepFailed,
    /// The caller went away or asked to stop.
    Cancelled,
    /// The disk is full.
    NoSpace,
    /// Anything else.
    Internal,
}

/// An error of a build: a kind and the text that the user reads.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    exit_code: Option<i32>,
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
            exit_code: None,
            source: None,
        }
    }

    /// The user's mistake.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The caller went away.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "Build cancelled")
    }

    /// A step that ended with `code`; `command` is what was run, joined with blanks.
    pub fn step_failed(command: &str, code: i32) -> Self {
        Self {
            exit_code: Some(code),
            ..Self::new(
                ErrorKind::StepFailed,
                format!("The command '{command}' returned a non-zero code: {code}"),
            )
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

    /// The same error with `context: ` before its text.
    pub fn within(mut self, context: &str) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// How to answer for it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit code of the step that failed; Docker's stream carries it beside the text.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }
}

impl From<berth_store::Error> for Error {
    fn from(error: berth_store::Error) -> Self {
        use berth_store::ErrorKind as Store;
        let kind = match error.kind() {
            Store::NotFound => ErrorKind::NotFound,
            Store::Invalid | Store::Ambiguous => ErrorKind::Invalid,
            Store::NoSpace => ErrorKind::NoSpace,
            Store::Conflict | Store::Unsupported | Store::Internal => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string())
    }
}

impl From<berth_distribution::Error> for Error {
    fn from(error: berth_distribution::Error) -> Self {
        use berth_distribution::ErrorKind as Remote;
        let kind = match error.kind() {
            Remote::NotFound => ErrorKind::NotFound,
            Remote::Unauthorized => ErrorKind::Unauthorized,
            Remote::Unavailable => ErrorKind::Unavailable,
            Remote::Invalid => ErrorKind::Invalid,
            Remote::NoSpace => ErrorKind::NoSpace,
            Remote::Internal => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string())
    }
}
