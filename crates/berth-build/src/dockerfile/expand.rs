//! Variables in a word: `$v`, `${v:-w}`, `${v#p}`, `${v/p/r}` … with a shell's quotes and escapes,
//! as BuildKit's lexer has them.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::pattern::Pattern;
use crate::{Error, Result};

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// Nested `${…}` a word may have.
const DEPTH_MAX: usize = 64;
/// Bytes a word may grow to.
const RESULT_MAX: usize = 16 << 20;

/// Expands words with one escape character.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expander {
    escape: char,
    raw: bool,
}

impl Expander {
    pub(crate) fn new(escape: char) -> Self {
        Expander { escape, raw: false }
    }

    /// Keeps quotes, escapes and unset variables as they are: splits into words only.
    pub(crate) fn raw(escape: char) -> Self {
        Expander { escape, raw: true }
    }

    /// `source` with its variables expanded and its quotes removed.
    pub(crate) fn word(&self, source: &str, variables: &Variables) -> Result<String> {
        Ok(self.process(source, variables)?.0)
    }

    /// The same, split at blanks outside of quotes; blanks that came out of a variable split too.
    pub(crate) fn words(&self, source: &str, variables: &Variables) -> Result<Vec<String>> {
        Ok(self.process(source, variables)?.1)
    }

    /// The same for the body of a here-document: quotes are ordinary characters there.
    pub(crate) fn heredoc(&self, source: &str, variables: &Variables) -> Result<String> {
        let mut run = self.run(source, variables);
        run.quotes = false;
        run.until(None, false)
            .map(|(text, _)| text)
            .map_err(|error| failed(source, error))
    }

    fn process(&self, source: &str, variables: &Variables) -> Result<(String, Vec<String>)> {
        self.run(source, variables)
            .until(None, self.raw)
            .map_err(|error| failed(source, error))
    }

    fn run<'a>(&self, source: &'a str, variables: &'a Variables) -> Run<'a> {
        Run {
            chars: source.chars().peekable(),
            variables,
            escape: self.escape,
            raw: self.raw,
            quotes: true,
            depth: 0,
        }
    }
}

fn failed(source: &str, why: String) -> Error {
    Error::invalid(format!(
        "failed to process {}: {why}",
        super::go_format::quote(source)
    ))
}

type Step<T> = std::result::Result<T, String>;

struct Run<'a> {
    chars: Peekable<Chars<'a>>,
    variables: &'a Variables,
    escape: char,
    raw: bool,
    quotes: bool,
    depth: usize,
}

/// The words of what was read so far.
#[derive(Default)]
struct Words {
    word: String,
    words: Vec<String>,
    inside: bool,
}

impl Words {
    fn char(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
            self.inside = true;
        } else if self.inside && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.inside = false;
        }
    }

    /// Text that is not split: it was quoted or escaped.
    fn quoted(&mut self, text: &str) {
        self.word.push_str(text);
        self.inside = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

impl Run<'_> {
    /// Reads up to `stop` (which is taken), or to the end where there is none.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Step<(String, Vec<String>)> {
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(&c) = self.chars.peek() {
            if stop == Some(c) {
                self.chars.next();
                return Ok((result, words.finish()));
            }
            if result.len() > RESULT_MAX {
                return Err("the result is too large".into());
            }
            match c {
                '$' => {
                    let text = self.dollar()?;
                    text.chars().for_each(|c| words.char(c));
                    result.push_str(&text);
                }
                '\'' if self.quotes => {
                    let text = self.single()?;
                    words.quoted(&text);
                    result.push_str(&text);
                }
                '"' if self.quotes => {
                    let text = self.double(raw_escapes)?;
                    words.quoted(&text);
                    result.push_str(&text);
                }
                c if c == self.escape => {
                    self.chars.next();
                    let mut text = String::new();
                    if raw_escapes {
                        text.push(c);
                    }
                    text.extend(self.chars.next());
                    words.quoted(&text);
                    result.push_str(&text);
                }
                c => {
                    self.chars.next();
                    words.char(c);
                    result.push(c);
                }
            }
        }
        match stop {
            Some(stop) => Err(format!(
                "unexpected end of statement while looking for matching {stop}"
            )),
            None => Ok((result, words.finish())),
        }
    }

    fn single(&mut self) -> Step<String> {
        let mut text = String::new();
        let quote = self.chars.next();
        if self.raw {
            text.extend(quote);
        }
        loop {
            match self.chars.next() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching single-quote"
                            .into(),
                    );
                }
                Some('\'') => break,
                Some(c) => text.push(c),
            }
        }
        if self.raw {
            text.push('\'');
        }
        Ok(text)
    }

    /// Within double quotes variables are expanded, and only `"`, `$` and the escape character
    /// itself can be escaped.
    fn double(&mut self, raw_escapes: bool) -> Step<String> {
        let mut text = String::new();
        let quote = self.chars.next();
        if self.raw {
            text.extend(quote);
        }
        loop {
            match self.chars.peek().copied() {
                None => {
                    return Err(
                        "unexpected end of statement while looking for matching double-quote"
                            .into(),
                    );
                }
                Some('"') => {
                    self.chars.next();
                    if self.raw {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.escape => {
                    self.chars.next();
                    if raw_escapes {
                        text.push(c);
                    }
                    match self.chars.peek().copied() {
                        None => {}
                        Some(n) if n == '"' || n == '$' || n == self.escape => {
                            self.chars.next();
                            text.push(n);
                        }
                        Some(_) if raw_escapes => {}
                        Some(_) => text.push(c),
                    }
                }
                Some(c) => {
                    self.chars.next();
                    text.push(c);
                }
            }
        }
    }

    fn dollar(&mut self) -> Step<String> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.variables.get(&name) {
                None if self.raw => format!("${name}"),
                value => value.cloned().unwrap_or_default(),
            });
        }
        self.chars.next();
        if self.depth >= DEPTH_MAX {
            return Err("syntax error: substitutions are nested too deeply".into());
        }
        self.depth += 1;
        let text = self.braces();
        self.depth -= 1;
        text
    }

    /// What follows `${`.
    fn braces(&mut self) -> Step<String> {
        match self.chars.peek() {
            None => return Err("syntax error: missing '}'".into()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".into()),
            Some(_) => {}
        }
        let name = self.name();
        let value = self.variables.get(&name).cloned();
        match self.chars.next() {
            Some('}') => Ok(match value {
                None if self.raw => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.chars.next() {
                Some(c @ ('-' | '+' | '?')) => self.conditional(&name, value, c, true),
                other => Err(format!(
                    "unsupported modifier (:{}) in substitution",
                    other.map(String::from).unwrap_or_default()
                )),
            },
            Some(c @ ('-' | '+' | '?')) => self.conditional(&name, value, c, false),
            Some(c @ ('#' | '%')) => self.trim(&name, value, c),
            Some('/') => self.replace(&name, value),
            Some(c) => Err(format!("unsupported modifier ({c}) in substitution")),
            None => Err("syntax error: missing '}'".into()),
        }
    }

    fn operand(&mut self, raw_escapes: bool) -> Step<String> {
        match self.until(Some('}'), raw_escapes) {
            Ok((word, _)) => Ok(word),
            Err(_) if self.chars.peek().is_none() => Err("syntax error: missing '}'".into()),
            Err(error) => Err(error),
        }
    }

    /// `${v:-w}`, `${v:+w}`, `${v:?w}` and their forms without the colon, which take an empty
    /// value for a value.
    fn conditional(
        &mut self,
        name: &str,
        value: Option<String>,
        operator: char,
        colon: bool,
    ) -> Step<String> {
        let word = self.operand(false)?;
        if self.raw && value.is_none() {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let usable = value.as_ref().is_some_and(|v| !colon || !v.is_empty());
        match (operator, usable) {
            ('-', true) | ('?', true) => Ok(value.unwrap_or_default()),
            ('-', false) | ('+', true) => Ok(word),
            ('+', false) => Ok(String::new()),
            _ if !word.is_empty() => Err(format!("{name}: {word}")),
            _ if value.is_none() => Err(format!("{name}: is not allowed to be unset")),
            _ => Err(format!("{name}: is not allowed to be empty")),
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn trim(&mut self, name: &str, value: Option<String>, side: char) -> Step<String> {
        let word = self.operand(true)?;
        let Some(value) = value else {
            return Ok(if self.raw {
                format!("${{{name}{side}{word}}}")
            } else {
                String::new()
            });
        };
        let (longest, text) = match word.strip_prefix(side) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let pattern = Pattern::parse(text)?;
        Ok(if side == '#' {
            pattern.trim_start(&value, longest).to_owned()
        } else {
            pattern.trim_end(&value, longest).to_owned()
        })
    }

    /// `${v/p/r}` and `${v//p/r}`.
    fn replace(&mut self, name: &str, value: Option<String>) -> Step<String> {
        let all = self.chars.peek() == Some(&'/');
        if all {
            self.chars.next();
        }
        let pattern = match self.until(Some('/'), true) {
            Ok((pattern, _)) => pattern,
            Err(_) if self.chars.peek().is_none() => {
                return Err("syntax error: missing '/' in ${}".into());
            }
            Err(error) => return Err(error),
        };
        let replacement = self.operand(true)?;
        match value {
            Some(value) => Ok(Pattern::parse(&pattern)?.replace(&value, &replacement, all)),
            None if self.raw => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            None => Ok(String::new()),
        }
    }

    /// A name: letters, digits and `_`; digits alone, or one of the special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(&c) = self.chars.peek() {
            if name.is_empty() {
                if c.is_numeric() {
                    while let Some(digit) = self.chars.next_if(|c| c.is_numeric()) {
                        name.push(digit);
                    }
                    return name;
                }
                if matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
                    self.chars.next();
                    return c.into();
                }
            }
            if !c.is_alphanumeric() && c != '_' {
                break;
            }
            name.push(c);
            self.chars.next();
        }
        name
    }
}

#[cfg(test)]
mod tests;
