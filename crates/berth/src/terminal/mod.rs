//! The user's terminal: its size, its raw mode, and the streams of a container on it.

pub mod detach_keys;
pub mod input;
pub mod prompt;
pub mod raw;
pub mod signals;
pub mod size;
pub mod streams;

use std::io::IsTerminal;

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}
