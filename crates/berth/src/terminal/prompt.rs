//! Questions to the user.

use std::io::{self, BufRead, Write};

use super::raw::RawMode;

/// Longest answer read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Asks for a line.
pub fn line(question: &str) -> io::Result<String> {
    print!("{question}");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), MAX_ANSWER).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Asks for a line that is not echoed.
pub fn secret(question: &str) -> io::Result<String> {
    let quiet = RawMode::without_echo()?;
    let answer = line(question)?;
    drop(quiet);
    println!();
    Ok(answer)
}

/// Asks whether to go on.
pub fn confirm(question: &str) -> io::Result<bool> {
    Ok(line(&format!("{question} [y/N] "))?.eq_ignore_ascii_case("y"))
}
