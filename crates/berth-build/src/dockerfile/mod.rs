//! From a Dockerfile's text to instructions. Pure: nothing here reads a file or knows an image.
//!
//! Begin with [`parse`]. The lexical level is `lines`, the rule by which each instruction's line is
//! cut is `words`, variables are `expand`.

mod expand;
mod flags;
pub(crate) mod go_format;
mod instruction;
mod lines;
mod mount;
mod parse;
mod pattern;
mod words;

pub(crate) use expand::{Expander, Variables};
pub(crate) use instruction::{Command, CommandLine, Copy, Dockerfile, Instruction, Run, Stage};
pub(crate) use lines::{DOCKERFILE_MAX, Heredoc};
pub(crate) use mount::{Mount, MountKind, Sharing};
pub(crate) use parse::{parse, parse_commands};

/// The one of `known` that was probably meant by `word`: at most two letters away.
fn suggest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .map(|name| (distance(&word, &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| (1..3).contains(distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein's distance. Words longer than any name are far from all.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
