//! `NAME=value` lists: environments, labels, files of them.

use std::collections::BTreeMap;
use std::fs;

use crate::environment;

/// Largest file read, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// `NAME=value`, or `NAME` with the user's own value, or `NAME` alone.
pub fn env(text: &str) -> Result<String, String> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(match environment::lookup(name) {
        Some(value) => format!("{name}={value}"),
        None => text.to_owned(),
    })
}

/// `name=value` or `name`.
pub fn label(text: &str) -> Result<String, String> {
    let name = text.split('=').next().unwrap_or_default();
    let name = name.trim_start_matches([' ', '\t']);
    if name.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if name.contains([' ', '\t']) {
        return Err(format!("label '{name}' contains whitespaces"));
    }
    Ok(text.to_owned())
}

/// The lines of files, then what was given on the command line, so that it wins.
pub fn collect(files: &[String], given: &[String], lookup: bool) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read_file(file, lookup)?);
    }
    all.extend_from_slice(given);
    Ok(all)
}

fn read_file(path: &str, lookup: bool) -> Result<Vec<String>, String> {
    let named = |e: std::io::Error| {
        let why = match e.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => e.to_string(),
        };
        format!("open {path}: {why}")
    };
    if fs::metadata(path).map_err(named)?.len() > MAX_FILE {
        return Err(format!("open {path}: larger than {MAX_FILE} bytes"));
    }
    let bytes = fs::read(path).map_err(named)?;
    parse(&bytes, lookup).map_err(|e| format!("invalid env file ({path}): {e}"))
}

fn parse(bytes: &[u8], lookup: bool) -> Result<Vec<String>, String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut found = Vec::new();
    for (number, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("invalid utf8 bytes at line {}: {line:?}", number + 1))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains([' ', '\t']) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        if line.contains('=') {
            found.push(line.to_owned());
        } else if lookup && let Some(value) = environment::lookup(line) {
            found.push(format!("{name}={value}"));
        }
    }
    Ok(found)
}

/// As a map; the last of a name wins, a missing value is empty.
pub fn to_map(pairs: &[String]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_line_by_line() {
        let text = b"\xEF\xBB\xBF# no\n\n  A=1 \nB=\r\nBERTH_TEST_UNSET\n";
        assert_eq!(parse(text, true).unwrap(), ["A=1 ", "B="]);
        assert!(parse(b"=x", true).is_err() && parse(b"a b=c", true).is_err());
    }

    #[test]
    fn names_are_checked() {
        assert!(env("=x").is_err() && label("=x").is_err() && label("a b=c").is_err());
        assert_eq!(env("A="), Ok("A=".into()));
    }
}
