//! Build contexts: what `COPY` and `ADD` read from, and where the Dockerfile stands.

use std::fmt;

use tokio::io::AsyncRead;

/// Where the files of a build come from.
pub enum Context {
    /// A tar archive, plain or compressed by gzip, zstd, xz or bzip2.
    Tar(Box<dyn AsyncRead + Send + Unpin>),
    /// The URL of a tar archive, of a git repository (`….git#ref:directory`, `git://`, `git@…`) or of
    /// a Dockerfile.
    Remote(String),
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Context::Tar(_) => f.write_str("Tar(..)"),
            Context::Remote(url) => f.debug_tuple("Remote").field(url).finish(),
        }
    }
}
