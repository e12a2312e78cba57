//! What commands print: tables, templates, JSON, sizes and ages.

pub mod json;
pub mod number;
pub mod output;
pub mod quote;
pub mod rows;
pub mod size;
pub mod template;
pub mod time;
pub mod tree;

use std::io::{self, Write};

use crate::failure::Outcome;

/// Writes to standard output; a reader that went away is no failure of ours.
pub fn write_stdout(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
