//! Help, laid out as Docker lays it out.

use std::fmt::Write;

use super::{ENTRIES, Entry, GROUPS};
use crate::usage;

/// Help of everything.
pub fn top_level(program: &str, command: &clap::Command) -> String {
    let mut out = format!("Usage:  {program} [OPTIONS] COMMAND\n\n");
    out.push_str("A self-sufficient runtime for containers\n\nCommon Commands:\n");
    let mut common: Vec<_> = ENTRIES.iter().filter(|e| e.common > 0).collect();
    common.sort_by_key(|e| e.common);
    for entry in common {
        row(&mut out, short_name(entry), entry.about);
    }
    out.push_str("\nManagement Commands:\n");
    for (group, about) in GROUPS {
        row(&mut out, group, about);
    }
    out.push_str("\nCommands:\n");
    let mut others: Vec<_> = ENTRIES
        .iter()
        .filter(|e| e.common == 0 && !e.hidden)
        .filter(|e| !short_name(e).contains(' '))
        .collect();
    others.sort_by_key(|e| short_name(e));
    for entry in others {
        row(&mut out, short_name(entry), entry.about);
    }
    out.push_str("\nGlobal Options:\n");
    out.push_str(&usage::options(command, usage::width()));
    let _ = writeln!(
        out,
        "\nRun '{program} COMMAND --help' for more information on a command."
    );
    out
}

/// Help of a group: `berth container`.
pub fn group(program: &str, group: &str) -> String {
    let about = GROUPS
        .iter()
        .find(|(name, _)| *name == group)
        .map_or("", |(_, about)| about);
    let mut rows: Vec<_> = ENTRIES
        .iter()
        .filter(|e| !e.hidden)
        .filter_map(|e| Some((in_group(e, group)?, e.about)))
        .collect();
    rows.sort_unstable();
    let mut out = format!("Usage:  {program} {group} COMMAND\n\n{about}\n\nCommands:\n");
    for (name, about) in rows {
        row(&mut out, name, about);
    }
    let _ = writeln!(
        out,
        "\nRun '{program} {group} COMMAND --help' for more information on a command."
    );
    out
}

/// Help of one verb.
pub fn verb(program: &str, entry: &Entry, path: &str) -> String {
    let usage_line = super::usage_line(program, entry, path);
    let mut out = format!("Usage:  {usage_line}\n\n{}\n", entry.long);
    if entry.paths.len() > 1 {
        let paths: Vec<_> = entry
            .paths
            .iter()
            .map(|path| format!("{program} {path}"))
            .collect();
        let _ = write!(out, "\nAliases:\n  {}\n", paths.join(", "));
    }
    let options = usage::options(&super::parser(entry), usage::width());
    if !options.is_empty() {
        let _ = write!(out, "\nOptions:\n{options}");
    }
    out
}

fn row(out: &mut String, name: &str, about: &str) {
    let _ = writeln!(out, "  {name:<11} {about}");
}

/// The shortest of a verb's names: `run` for `container run`.
fn short_name(entry: &Entry) -> &'static str {
    let top = entry.paths.iter().find(|path| !path.contains(' '));
    top.copied().unwrap_or(entry.paths[0])
}

/// A verb's first name in a group.
fn in_group(entry: &Entry, group: &str) -> Option<&'static str> {
    let of_group = |path: &&'static str| path.strip_prefix(group)?.strip_prefix(' ');
    entry.paths.iter().find_map(of_group)
}
