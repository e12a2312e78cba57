//! `.dockerignore`: patterns as moby's patternmatcher has them (not gitignore's).

use regex::Regex;

use crate::{Error, Result};

/// Bytes an ignore file may have.
pub const IGNORE_FILE_MAX: u64 = 1 << 20;
/// Patterns it may have.
const PATTERNS_MAX: usize = 10_000;

/// The patterns of an ignore file; later ones win.
#[derive(Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// `!pattern`: what matches stays.
    exception: bool,
    /// The leading directories of the pattern that have no wildcard, with a slash after each; the
    /// whole pattern if it has none at all.
    fixed: String,
}

impl Ignore {
    /// Reads the file's text. A line that is no pattern is an error that quotes it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for line in text.lines() {
            // A comment begins in the first column.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if patterns.len() == PATTERNS_MAX {
                return Err(Error::invalid(format!(
                    ".dockerignore has more than {PATTERNS_MAX} patterns"
                )));
            }
            patterns.push(Pattern::parse(line)?);
        }
        Ok(Ignore { patterns })
    }

    /// The same rules from a list, as `COPY --exclude` gives them.
    pub(crate) fn of(patterns: &[String]) -> Result<Self> {
        Ignore::parse(&patterns.join("\n"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` (relative, clean) is left out. A pattern that matches a directory matches
    /// what is below it.
    pub fn excludes(&self, path: &str) -> bool {
        let mut out = false;
        for pattern in &self.patterns {
            if pattern.exception == out && pattern.matches(path) {
                out = !pattern.exception;
            }
        }
        out
    }

    /// Whether something below an excluded directory may be kept after all.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Whether an exception may keep something below the excluded directory `path` (relative,
    /// clean): who packs a tree need not look into it otherwise.
    pub fn may_keep_below(&self, path: &str) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.exception && pattern.may_match_below(path))
    }
}

impl Pattern {
    fn parse(line: &str) -> Result<Self> {
        let (exception, text) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if exception && text.is_empty() {
            return Err(Error::invalid("illegal exclusion pattern: \"!\""));
        }
        let clean = clean(text);
        let clean = clean.trim_start_matches('/');
        let source = to_regex(if clean.is_empty() { "." } else { clean })
            .ok_or_else(|| Error::invalid(format!("syntax error in pattern: {line}")))?;
        let regex = Regex::new(&source).map_err(|e| {
            Error::invalid(format!("syntax error in pattern: {line}")).with_source(e)
        })?;
        Ok(Pattern {
            regex,
            exception,
            fixed: fixed_part(clean),
        })
    }

    /// Whether something below `directory` can match: one of the two leads to the other.
    fn may_match_below(&self, directory: &str) -> bool {
        let directory = format!("{directory}/");
        self.fixed.starts_with(&directory) || directory.starts_with(&self.fixed)
    }

    fn matches(&self, path: &str) -> bool {
        if self.regex.is_match(path) {
            return true;
        }
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        parents
            .into_iter()
            .any(|parent| self.regex.is_match(parent))
    }
}

fn fixed_part(pattern: &str) -> String {
    let mut fixed = String::new();
    for part in pattern.split('/') {
        if part.contains(['*', '?', '[', '\\']) {
            break;
        }
        fixed.push_str(part);
        fixed.push('/');
    }
    fixed
}

/// Go's `filepath.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// `**` is any number of directories, `*` and `?` stay within one; brackets are the regex's own.
fn to_regex(pattern: &str) -> Option<String> {
    let mut regex = String::from("^");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                regex.push_str(if chars.peek().is_none() {
                    ".*"
                } else {
                    "(.*/)?"
                });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '\\' => regex.push_str(&regex::escape(&chars.next()?.to_string())),
            '[' => {
                regex.push('[');
                let mut closed = false;
                while let Some(c) = chars.next() {
                    match c {
                        ']' => {
                            closed = true;
                            break;
                        }
                        '\\' => regex.push_str(&regex::escape(&chars.next()?.to_string())),
                        '[' | '&' | '~' => {
                            regex.push('\\');
                            regex.push(c);
                        }
                        c => regex.push(c),
                    }
                }
                if !closed {
                    return None;
                }
                regex.push(']');
            }
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    Some(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pattern() {
        let table = [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "other/file", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("a**/*.txt", "abc/def.txt", true),
            ("a/*.txt", "a/b.txt", true),
            ("a/*.txt", "a/b/c.txt", false),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            ("[^a]*", "b", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abc/def", false),
            ("a\\\\", "a\\", true),
            ("foo", "foo/bar", true),
            ("/foo", "foo", true),
            ("./foo/", "foo", true),
            ("foo/../bar", "bar", true),
            ("*.go", "a/b.go", false),
            ("node_modules", "a/node_modules", false),
            ("**/node_modules", "a/node_modules/x", true),
            ("한*", "한글", true),
        ];
        for (pattern, path, expected) in table {
            let ignore = Ignore::parse(pattern).unwrap();
            assert_eq!(ignore.excludes(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_wins() {
        let ignore =
            Ignore::parse("\u{feff}# comment\n *.md \n!README*.md\nREADME-secret.md\n\n #not\n")
                .unwrap();
        assert!(ignore.excludes("x.md"));
        assert!(!ignore.excludes("README.md"));
        assert!(ignore.excludes("README-secret.md"));
        assert!(!ignore.excludes("x.txt"));
        assert!(ignore.excludes("#not"));
        let ignore = Ignore::parse("dir\n!dir/keep\n").unwrap();
        assert!(ignore.excludes("dir/x") && !ignore.excludes("dir/keep/y"));
        assert!(ignore.has_exceptions());
        assert!(Ignore::parse("*\n!a").unwrap().excludes("b"));
    }

    #[test]
    fn directories_that_an_exception_may_reach_into() {
        for (rules, directory, expected) in [
            ("dir", "dir", false),
            ("*\n!dir/keep", "dir", true),
            ("*\n!dir/keep", "other", false),
            ("*\n!dir/keep", "dir/sub", false),
            ("*\n!dir", "dir/sub", true),
            ("*\n!dir", "directory", false),
            ("*\n!**/keep", "a/b", true),
            ("*\n!a/*/keep", "a/b", true),
            ("*\n!a/*/keep", "b", false),
            ("*\n!README.md", "node_modules", false),
        ] {
            let ignore = Ignore::parse(rules).unwrap();
            assert_eq!(
                ignore.may_keep_below(directory),
                expected,
                "{rules:?} {directory}"
            );
        }
    }

    #[test]
    fn bad_patterns_are_errors() {
        for bad in ["!", "a[", "[^", "a\\", "[z-a]"] {
            assert!(Ignore::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cleaning_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("a//b/./c/", "a/b/c"),
            ("a/../..", ".."),
            ("/..", "/"),
            ("/a/../b", "/b"),
            ("../x", "../x"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
