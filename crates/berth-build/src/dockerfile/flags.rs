//! `--name=value` before an instruction's arguments.

use crate::{Error, Result};

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Switch,
    /// May be given several times.
    List,
}

/// The flags of one instruction, checked against those it knows.
#[derive(Debug)]
pub(super) struct Flags(Vec<(String, String)>);

impl Flags {
    /// Reads `given` (with dashes); `known` are the names without them.
    pub(super) fn parse(given: &[String], known: &[(&str, Kind)]) -> Result<Self> {
        let mut flags: Vec<(String, String)> = Vec::new();
        for flag in given {
            let text = flag.strip_prefix("--").unwrap_or(flag);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) else {
                let names = known.iter().map(|(name, _)| *name);
                let hint = super::suggest(name, names)
                    .map(|name| format!(" (did you mean {name}?)"))
                    .unwrap_or_default();
                return Err(Error::invalid(format!("unknown flag: --{name}{hint}")));
            };
            if *kind != Kind::List && flags.iter().any(|(other, _)| other == name) {
                return Err(Error::invalid(format!(
                    "duplicate flag specified: --{name}"
                )));
            }
            let value = match (kind, value) {
                (Kind::Switch, None) => "true",
                (Kind::Switch, Some(value)) => match value.to_ascii_lowercase().as_str() {
                    "true" => "true",
                    "false" => "false",
                    _ => {
                        return Err(Error::invalid(format!(
                            "expecting boolean value for flag --{name}, not: {value}"
                        )));
                    }
                },
                (_, Some(value)) => value,
                (_, None) => {
                    return Err(Error::invalid(format!("missing a value on flag: --{name}")));
                }
            };
            flags.push((name.to_owned(), value.to_owned()));
        }
        Ok(Flags(flags))
    }

    /// The value of a flag that was given and is not empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.list(name).pop().filter(|value| !value.is_empty())
    }

    /// Whether a switch was given and is not `false`.
    pub(super) fn switch(&self, name: &str) -> bool {
        self.optional_switch(name).unwrap_or(false)
    }

    /// The same, or `None` where it was not given.
    pub(super) fn optional_switch(&self, name: &str) -> Option<bool> {
        self.list(name).pop().map(|value| value == "true")
    }

    /// All values in order.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let of_name = self.0.iter().filter(|(other, _)| other == name);
        of_name.map(|(_, value)| value.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown() {
        let known = [
            ("from", Kind::Text),
            ("link", Kind::Switch),
            ("exclude", Kind::List),
        ];
        let parse = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(|s| s.to_string()).collect();
            Flags::parse(&flags, &known)
        };
        let flags = parse(&["--from=a=b", "--link", "--exclude=x", "--exclude=y"]).unwrap();
        assert_eq!(flags.text("from").as_deref(), Some("a=b"));
        assert!(flags.switch("link"));
        assert_eq!(flags.list("exclude"), ["x", "y"]);
        assert!(!parse(&["--link=False"]).unwrap().switch("link"));
        for (bad, error) in [
            ("--form=x", "unknown flag: --form (did you mean from?)"),
            ("--zzzzzz", "unknown flag: --zzzzzz"),
            ("--from", "missing a value on flag: --from"),
            (
                "--link=maybe",
                "expecting boolean value for flag --link, not: maybe",
            ),
        ] {
            assert_eq!(parse(&[bad]).unwrap_err().to_string(), error);
        }
        assert_eq!(
            parse(&["--from=a", "--from=b"]).unwrap_err().to_string(),
            "duplicate flag specified: --from"
        );
    }
}
