//! How a command fails: an exit code, and what is said about it on standard error.

use std::fmt;
use std::io;

/// What a command comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// An exit code with the text printed before it; no text where the code says it all.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code, 1 to 255.
    pub code: u8,
    /// Printed on standard error, if there is any.
    pub message: String,
    /// Whether the engine answered that there is no such thing.
    pub not_found: bool,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Failure::with_code(1, message)
    }

    /// A failure with an exit code.
    pub fn with_code(code: u8, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: message.into(),
            not_found: false,
        }
    }

    /// Nothing to say: the exit code of a container's process is the result.
    pub fn exit(code: i64) -> Self {
        // As the kernel keeps it.
        let code = u8::try_from(code & 0xff).unwrap_or(1);
        Failure::with_code(code, "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<berth_client::Error> for Failure {
    fn from(error: berth_client::Error) -> Self {
        Failure {
            code: 1,
            not_found: error.is_not_found(),
            message: error.to_string(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::new(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::new(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Failure::new(message)
    }
}

/// An error of the system in the words that Go has for it.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AlreadyExists => "file exists".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    }
}
