//! The lexical level: a file becomes logical lines, with directives, comments, continuations and
//! heredocs taken care of (Dockerfile reference, "Format").

use super::expand::Expander;
use crate::{Error, Result};

/// Bytes a Dockerfile may have.
pub(crate) const DOCKERFILE_MAX: u64 = 4 << 20;
/// Bytes one line may have, as in BuildKit.
const LINE_MAX: usize = 64 * 1024 - 1;

/// One instruction with all its continuation lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The text without comments and continuation characters.
    pub(crate) text: String,
    /// The number of its first line, from 1.
    pub(crate) number: usize,
    /// Here-documents that follow it.
    pub(crate) heredocs: Vec<Heredoc>,
}

/// A here-document: `<<EOF`, `<<-EOF`, `3<<"EOF"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The delimiter, which is also the name of the file that `COPY` makes of it.
    pub(crate) name: String,
    /// The lines up to the delimiter.
    pub(crate) content: String,
    /// Whether variables in it are expanded: the delimiter was not quoted.
    pub(crate) expand: bool,
    /// Whether leading tabs go (`<<-`).
    pub(crate) chomp: bool,
}

impl Heredoc {
    /// The content as a file gets it: without leading tabs where `<<-` asked for that.
    pub(crate) fn data(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// A file cut into instructions.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    /// What continues a line and escapes a character.
    pub(crate) escape: char,
    /// For the user, each a line.
    pub(crate) warnings: Vec<String>,
}

/// Cuts `text` into instructions.
pub(crate) fn cut(text: &str) -> Result<Lines> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut cutter = Cutter {
        source: text.split_inclusive('\n').collect(),
        next: 0,
        directives: Directives::new(),
        warnings: Vec::new(),
    };
    let mut lines = Vec::new();
    while let Some(line) = cutter.instruction()? {
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(Error::invalid("file with no instructions"));
    }
    let mut warnings = cutter.warnings;
    if !warnings.is_empty() {
        warnings.push(
            "[WARNING]: Empty continuation lines will become errors in a future release.".into(),
        );
    }
    Ok(Lines {
        lines,
        escape: cutter.directives.escape,
        warnings,
    })
}

struct Cutter<'a> {
    source: Vec<&'a str>,
    next: usize,
    directives: Directives,
    warnings: Vec<String>,
}

impl<'a> Cutter<'a> {
    /// The next physical line, without its line end.
    fn physical(&mut self) -> Result<Option<&'a str>> {
        let Some(line) = self.source.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        if line.len() > LINE_MAX {
            return Err(Error::invalid(format!(
                "dockerfile line greater than max allowed size of {LINE_MAX}"
            )));
        }
        Ok(Some(trim_line_end(line)))
    }

    fn instruction(&mut self) -> Result<Option<Line>> {
        loop {
            let Some(raw) = self.physical()? else {
                return Ok(None);
            };
            let number = self.next;
            let trimmed = raw.trim_start();
            self.directives.look_at(trimmed)?;
            if trimmed.starts_with('#') {
                continue;
            }
            let (head, continues) = self.directives.continuation(trimmed);
            if head.is_empty() && !continues {
                continue;
            }
            let mut text = head.to_owned();
            if continues {
                self.join(&mut text)?;
            }
            let heredocs = self.heredocs(&text)?;
            return Ok(Some(Line {
                text,
                number,
                heredocs,
            }));
        }
    }

    /// Appends continuation lines. Comments between them vanish, blank lines are forgiven.
    fn join(&mut self, text: &mut String) -> Result<()> {
        let mut blank = false;
        while let Some(raw) = self.physical()? {
            let trimmed = raw.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                blank = true;
                continue;
            }
            let (part, continues) = self.directives.continuation(raw);
            text.push_str(part);
            if !continues {
                break;
            }
        }
        if blank {
            self.warnings.push(format!(
                "[WARNING]: Empty continuation line found in:\n    {text}"
            ));
        }
        Ok(())
    }

    fn heredocs(&mut self, text: &str) -> Result<Vec<Heredoc>> {
        if !text.contains("<<") || !may_have_heredoc(text) {
            return Ok(Vec::new());
        }
        let words = Expander::raw(self.directives.escape).words(text, &Default::default())?;
        let mut found = Vec::new();
        for word in words {
            let Some(mut heredoc) = heredoc_word(&word, self.directives.escape) else {
                continue;
            };
            self.read_heredoc(&mut heredoc)?;
            found.push(heredoc);
        }
        Ok(found)
    }

    fn read_heredoc(&mut self, heredoc: &mut Heredoc) -> Result<()> {
        loop {
            let Some(line) = self.source.get(self.next) else {
                return Err(Error::invalid("unterminated heredoc"));
            };
            self.next += 1;
            let mut end = trim_line_end(line);
            if heredoc.chomp {
                end = end.trim_start_matches('\t');
            }
            if end == heredoc.name {
                return Ok(());
            }
            heredoc.content.push_str(line);
        }
    }
}

fn trim_line_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// `ADD`, `COPY` and `RUN`, also behind `ONBUILD`; not in the JSON form.
fn may_have_heredoc(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        let (word, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let tail = tail.trim_start();
        match word.to_ascii_lowercase().as_str() {
            "onbuild" => rest = tail,
            "add" | "copy" | "run" => return !tail.starts_with('['),
            _ => return false,
        }
    }
}

/// Reads a word such as `<<-"EOF"`; its content is still to come.
pub(crate) fn heredoc_word(word: &str, escape: char) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let mut names = Expander::new(escape)
        .words(rest, &Default::default())
        .ok()?;
    if names.len() != 1 {
        return None;
    }
    let name = names.remove(0);
    Some(Heredoc {
        expand: name == rest,
        name,
        content: String::new(),
        chomp,
    })
}

/// The directives at the top: `# syntax=`, `# escape=`, `# check=`.
struct Directives {
    escape: char,
    done: bool,
    seen: Vec<String>,
}

impl Directives {
    fn new() -> Self {
        Directives {
            escape: '\\',
            done: false,
            seen: Vec::new(),
        }
    }

    /// Takes a directive from the line; the first line that is none ends them.
    fn look_at(&mut self, line: &str) -> Result<()> {
        if self.done {
            return Ok(());
        }
        let Some((key, value)) = directive(line) else {
            self.done = true;
            return Ok(());
        };
        if !matches!(key.as_str(), "escape" | "syntax" | "check") {
            self.done = true;
            return Ok(());
        }
        if self.seen.contains(&key) {
            return Err(Error::invalid(format!(
                "only one {key} parser directive can be used"
            )));
        }
        if key == "escape" {
            self.escape = match value {
                "\\" => '\\',
                "`" => '`',
                other => {
                    return Err(Error::invalid(format!(
                        "invalid escape token '{other}' does not match ` or \\"
                    )));
                }
            };
        }
        self.seen.push(key);
        Ok(())
    }

    /// Cuts a continuation character off. An escaped one continues nothing; blanks may follow it.
    fn continuation<'t>(&self, line: &'t str) -> (&'t str, bool) {
        let end = line.trim_end_matches([' ', '\t']);
        match end.strip_suffix(self.escape) {
            Some(head) if !head.ends_with(self.escape) => (head, true),
            _ => (line, false),
        }
    }
}

/// `# key = value`; the key in lower case.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let word = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric());
    (word && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        cut(source)
            .unwrap()
            .lines
            .into_iter()
            .map(|line| line.text)
            .collect()
    }

    #[test]
    fn lines_are_joined_as_buildkit_joins_them() {
        let table: &[(&str, &[&str])] = &[
            ("FROM a\nRUN b\n", &["FROM a", "RUN b"]),
            ("\u{feff}FROM a", &["FROM a"]),
            ("FROM a\r\nRUN b\r\n", &["FROM a", "RUN b"]),
            ("  FROM a\n\n\n\tRUN b", &["FROM a", "RUN b"]),
            // White space at the start of a continuation line stays.
            ("RUN a \\\n    b", &["RUN a     b"]),
            ("RUN a \\  \t\n b", &["RUN a  b"]),
            ("RUN a \\\n# comment\n b", &["RUN a  b"]),
            ("RUN a \\\n  # comment\n b\nRUN c", &["RUN a  b", "RUN c"]),
            ("RUN a \\\n\n b", &["RUN a  b"]),
            // At the end of the file there is nothing to continue with.
            ("RUN a \\\n", &["RUN a "]),
            // An escaped continuation character is none.
            ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
            ("# escape=`\nRUN a `\nb\nRUN c:\\", &["RUN a b", "RUN c:\\"]),
            // A directive after a comment is a comment.
            ("# hi\n# escape=`\nRUN a \\\n b", &["RUN a  b"]),
            ("# unknown=1\n# escape=`\nRUN a \\\n b", &["RUN a  b"]),
            (
                "#syntax=docker/dockerfile:1\n# Escape = `\nRUN a`\nb",
                &["RUN ab"],
            ),
            ("# syntax=x\n\n# escape=`\nRUN a\\\nb", &["RUN ab"]),
        ];
        for (source, expected) in table {
            assert_eq!(&texts(source), expected, "{source:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (source, error) in [
            ("", "file with no instructions"),
            ("# only\n\n# comments\n", "file with no instructions"),
            (
                "# escape=\\\n# escape=`\nFROM a",
                "only one escape parser directive can be used",
            ),
            (
                "# escape=x\nFROM a",
                "invalid escape token 'x' does not match ` or \\",
            ),
            ("RUN <<EOF\nhello\n", "unterminated heredoc"),
        ] {
            assert_eq!(cut(source).unwrap_err().to_string(), error, "{source:?}");
        }
        let long = format!("RUN {}", "x".repeat(LINE_MAX));
        assert!(cut(&long).is_err());
    }

    #[test]
    fn blank_continuation_lines_are_told() {
        let cut = cut("RUN a \\\n\n b").unwrap();
        assert_eq!(
            cut.warnings,
            [
                "[WARNING]: Empty continuation line found in:\n    RUN a  b",
                "[WARNING]: Empty continuation lines will become errors in a future release."
            ]
        );
    }

    #[test]
    fn heredocs() {
        let cut = cut(concat!(
            "RUN cat <<EOF >/x && cat 3<<-'END' \n",
            "one $x\n",
            "# no comment\n",
            "EOF\n",
            "\ttwo\n",
            "\tEND\n",
            "COPY <<\"a b\" <<c /d/\n",
            "a b\n",
            "text\\\n",
            "c\n",
            "CMD echo <<EOF\n",
            "RUN [\"cat\", \"<<EOF\"]\n",
            "RUN echo a<<b '<<EOF'\n",
        ))
        .unwrap();
        let found: Vec<Vec<(&str, &str, bool, bool)>> = cut
            .lines
            .iter()
            .map(|line| {
                line.heredocs
                    .iter()
                    .map(|h| (h.name.as_str(), h.content.as_str(), h.expand, h.chomp))
                    .collect()
            })
            .collect();
        assert_eq!(
            found,
            [
                vec![
                    ("EOF", "one $x\n# no comment\n", true, false),
                    ("END", "\ttwo\n", false, true)
                ],
                vec![("a b", "", false, false), ("c", "text\\\n", true, false)],
                vec![],
                vec![],
                vec![],
            ]
        );
        assert_eq!(cut.lines[0].heredocs[1].data(), "two\n");
    }
}
