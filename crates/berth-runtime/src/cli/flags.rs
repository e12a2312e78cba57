//! The command line as runc takes it: `--name value`, `--name=value`, `-n value`, one dash or two.

use std::ffi::OsString;

use crate::error::{Error, Result};

/// A flag: its names, the long one first, and whether it takes a value.
pub(super) type Flag = (&'static [&'static str], bool);

/// What a command was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: Vec<(&'static str, String)>,
    /// What is no flag.
    pub words: Vec<String>,
}

impl Given {
    /// Takes flags until the first word that is none. All that follows it are words, flags or not,
    /// if `words_end_flags`; else flags may stand anywhere.
    pub fn parse(
        arguments: impl Iterator<Item = OsString>,
        known: &[Flag],
        words_end_flags: bool,
    ) -> Result<Self> {
        let mut given = Self::default();
        let mut only_words = false;
        let mut arguments = arguments.map(|argument| {
            argument
                .into_string()
                .map_err(|a| Error::invalid(format!("argument {a:?} is not UTF-8")))
        });
        while let Some(argument) = arguments.next() {
            let argument = argument?;
            if argument == "--" && !only_words {
                only_words = true;
                continue;
            }
            let Some(flag) = argument
                .strip_prefix('-')
                .filter(|f| !only_words && !f.is_empty())
            else {
                only_words |= words_end_flags;
                given.words.push(argument);
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let (names, takes_value) = known
                .iter()
                .find(|(names, _)| names.contains(&name))
                .ok_or_else(|| Error::invalid(format!("flag provided but not defined: -{name}")))?;
            let value = match (value, takes_value) {
                (Some(value), _) => value,
                (None, false) => "true".to_owned(),
                (None, true) => arguments
                    .next()
                    .transpose()?
                    .ok_or_else(|| Error::invalid(format!("flag needs an argument: -{name}")))?,
            };
            given.values.push((names[0], value));
        }
        Ok(given)
    }

    /// The last value of a flag, by its long name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Every value of a flag.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        self.values
            .iter()
            .filter(move |(n, _)| *n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub fn on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// A number.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>> {
        self.value(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| Error::invalid(format!("invalid value {text:?} for flag -{name}")))
            })
            .transpose()
    }

    /// The container's ID, which is the first word.
    pub fn id(&self) -> Result<&str> {
        let id = self
            .words
            .first()
            .ok_or_else(|| Error::invalid("container id cannot be empty"))?;
        let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.len() > 1024 || !id.chars().all(good) || id == "." || id == ".." {
            return Err(Error::invalid("invalid container ID format"));
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[(&["bundle", "b"], true), (&["force", "f"], false)];

    fn parse(line: &str, words_end_flags: bool) -> Result<Given> {
        let arguments = line.split_whitespace().map(OsString::from);
        Given::parse(arguments, KNOWN, words_end_flags)
    }

    #[test]
    fn flags_are_taken_in_every_form() {
        let given = parse("-b /a --bundle=/b -force id more", false).unwrap();
        assert_eq!(given.value("bundle"), Some("/b"));
        assert_eq!(given.all("bundle").count(), 2);
        assert!(given.on("force"));
        assert_eq!(given.words, ["id", "more"]);
        let given = parse("id sh -c -b", true).unwrap();
        assert_eq!(given.words, ["id", "sh", "-c", "-b"]);
        assert!(!parse("--force=false x", false).unwrap().on("force"));
        assert!(parse("--unknown", false).is_err());
        assert!(parse("--bundle", false).is_err());
    }

    #[test]
    fn ids_are_names() {
        for id in ["a", "A_b+c-1.2"] {
            assert_eq!(parse(id, false).unwrap().id().unwrap(), id);
        }
        for id in ["", "..", "a/b", "/abs", "a%b"] {
            assert!(parse(id, false).unwrap().id().is_err(), "{id}");
        }
    }
}
