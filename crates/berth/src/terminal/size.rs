//! How large a terminal is.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Of the terminal on standard output.
pub fn of_stdout() -> Option<Size> {
    of(std::io::stdout())
}

/// Of the terminal on standard input.
pub fn of_stdin() -> Option<Size> {
    of(std::io::stdin())
}

/// Of the terminal on standard error.
pub fn of_stderr() -> Option<Size> {
    of(std::io::stderr())
}

fn of(stream: impl AsFd) -> Option<Size> {
    let size = tcgetwinsize(stream).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}
