//! What `build` sends to the engine: a directory, what comes on standard input, or an address
//! that the engine fetches itself.
//!
//! A directory is packed while it is sent, in the order of its names, and never held in
//! memory. `.dockerignore` says what stays here; the Dockerfile and the ignore file are sent in
//! any case, as the engine reads both.

mod archive;
mod directory;
mod dockerfile;
mod remote;
mod stdin;
mod stream;

use std::path::Path;

pub use archive::Archive;
pub use stream::{Report, stream};

use crate::failure::{Failure, Outcome, why};

/// A context ready to be sent.
pub struct Context {
    /// Where in it the Dockerfile is; empty for the default.
    pub dockerfile: String,
    /// Where it comes from.
    pub source: Source,
}

/// Where a context comes from.
pub enum Source {
    /// An archive written here.
    Archive(Archive),
    /// An address for the engine.
    Remote(String),
}

/// Finds out what `context` (the word on the command line) and `dockerfile` (`--file`) mean.
/// Nothing is packed yet.
pub fn prepare(context: &str, dockerfile: &str) -> Outcome<Context> {
    let prepared = match context {
        "-" if dockerfile == "-" => {
            return Err(Failure::new(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        "-" => stdin::context(dockerfile),
        _ if Path::new(context).exists() => directory::context(context, dockerfile),
        _ if remote::is_address(context) => {
            if dockerfile == "-" {
                return Err(Failure::new(
                    "invalid argument: the Dockerfile cannot come from stdin where the engine fetches the context",
                ));
            }
            return Ok(Context {
                dockerfile: dockerfile.to_owned(),
                source: Source::Remote(context.to_owned()),
            });
        }
        _ => Err(format!("path {context:?} not found")),
    };
    prepared.map_err(|e| Failure::new(format!("unable to prepare context: {e}")))
}

/// Reads a small file whole; `what` and the path are named where it fails.
fn read_small(path: &Path, what: &str, max: u64) -> Result<Vec<u8>, String> {
    let failed = |e: &std::io::Error| format!("{what}: open {}: {}", path.display(), why(e));
    let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, max + 1), &mut bytes)
        .map_err(|e| failed(&e))?;
    if bytes.len() as u64 > max {
        return Err(format!(
            "{what}: {} has more than {max} bytes",
            path.display()
        ));
    }
    Ok(bytes)
}
