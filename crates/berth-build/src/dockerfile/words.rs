//! An instruction's line cut into its parts, each instruction by its own rule.

use crate::{Error, Result};

/// The arguments of `RUN`, `CMD` and the like: a JSON list, or one text for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arguments {
    Json(Vec<String>),
    Text(String),
}

/// `NAME --flag=value … rest`: the name as written, the flags with their dashes, the rest.
pub(super) fn split_command(line: &str) -> (String, Vec<String>, String) {
    let line = line.trim();
    let (name, rest) = match line.find(is_blank) {
        Some(end) => (&line[..end], line[end..].trim()),
        None => (line, ""),
    };
    let (flags, rest) = take_flags(rest);
    (name.to_owned(), flags, rest.trim().to_owned())
}

/// What separates words on a line; a line feed cannot stand in one, except in a heredoc's tail.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Takes leading `--flag` words off, with quotes and backslashes removed; `--` alone ends them.
fn take_flags(text: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let mut word = String::new();
        let mut quote = None;
        let mut end = rest.len();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (None, c) if c.is_whitespace() => {
                    end = at;
                    break;
                }
                (None, '\'' | '"') => quote = Some(c),
                (Some(q), c) if c == q => quote = None,
                (_, '\\') => word.extend(chars.next().map(|(_, c)| c)),
                (_, c) => word.push(c),
            }
        }
        rest = &rest[end..];
        if word == "--" {
            break;
        }
        flags.push(word);
        rest = rest.trim_start();
    }
    (flags, rest)
}

/// Words separated by blanks, quotes kept: they are taken off when variables are expanded.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut blank_counts = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if blank_counts || !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            blank_counts = false;
            continue;
        }
        if c == escape && quote != Some('\'') {
            // One at the very end escapes nothing.
            if let Some(next) = chars.next() {
                word.push(c);
                word.push(next);
            }
            continue;
        }
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                blank_counts = true;
            }
            _ => {}
        }
        word.push(c);
    }
    if blank_counts || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words separated by blanks, with no regard to quotes.
pub(super) fn plain_words(text: &str) -> Vec<String> {
    text.split(is_blank)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `k=v k2="v 2"` or the old `k v with blanks`, of `ENV` and `LABEL`.
pub(super) fn pairs(text: &str, escape: char, name: &str) -> Result<Vec<(String, String)>> {
    let words = words(text, escape);
    let Some(first) = words.first() else {
        return Ok(Vec::new());
    };
    if !first.contains('=') {
        let Some((key, value)) = text.split_once(is_blank) else {
            return Err(Error::invalid(format!("{name} must have two arguments")));
        };
        return Ok(vec![(
            key.into(),
            value.trim_start_matches(is_blank).into(),
        )]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Error::invalid(format!(
                "Syntax error - can't find = in {}. Must be of the form: name=value",
                super::go_format::quote(word)
            ))),
        })
        .collect()
}

/// A JSON list of strings where the text is one, else the text.
pub(super) fn maybe_json(text: &str) -> Result<Arguments> {
    Ok(match json(text)? {
        Some(list) => Arguments::Json(list),
        None => Arguments::Text(text.to_owned()),
    })
}

/// A JSON list of strings where the text is one, else its words.
pub(super) fn json_or_words(text: &str) -> Result<Vec<String>> {
    Ok(match json(text)? {
        Some(list) => list,
        None => plain_words(text),
    })
}

fn json(text: &str) -> Result<Option<Vec<String>>> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    list.into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Ok(text),
            _ => Err(Error::invalid(
                "when using JSON array syntax, arrays must be comprised of strings only",
            )),
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_first() {
        for (line, name, flags, rest) in [
            ("COPY --from=a  x y", "COPY", vec!["--from=a"], "x y"),
            ("copy x --from=a", "copy", vec![], "x --from=a"),
            (
                "RUN --mount=type=cache,target=/x\tmake",
                "RUN",
                vec!["--mount=type=cache,target=/x"],
                "make",
            ),
            (
                "RUN --a=\"b c\" --d='e' f",
                "RUN",
                vec!["--a=b c", "--d=e"],
                "f",
            ),
            ("CMD -- --x", "CMD", vec![], "--x"),
            ("RUN", "RUN", vec![], ""),
            ("RUN -c", "RUN", vec![], "-c"),
        ] {
            let (n, f, r) = split_command(line);
            assert_eq!(
                (n.as_str(), f, r.as_str()),
                (name, flags.iter().map(|s| s.to_string()).collect(), rest),
                "{line}"
            );
        }
    }

    #[test]
    fn pairs_new_and_old() {
        let ok = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            assert_eq!(pairs(text, '\\', "ENV").unwrap(), expected, "{text}");
        };
        ok("a b", &[("a", "b")]);
        ok("a   b  c=d", &[("a", "b  c=d")]);
        ok("a=b c=d", &[("a", "b"), ("c", "d")]);
        ok(
            "a=\"b c\" d='e f' g=h\\ i",
            &[("a", "\"b c\""), ("d", "'e f'"), ("g", "h\\ i")],
        );
        ok("a=", &[("a", "")]);
        ok("a=b=c", &[("a", "b=c")]);
        ok("", &[]);
        assert_eq!(
            pairs("a", '\\', "ENV").unwrap_err().to_string(),
            "ENV must have two arguments"
        );
        assert_eq!(
            pairs("a=b c", '\\', "ENV").unwrap_err().to_string(),
            "Syntax error - can't find = in \"c\". Must be of the form: name=value"
        );
    }

    #[test]
    fn json_or_shell() {
        let json = |list: &[&str]| Arguments::Json(list.iter().map(|s| s.to_string()).collect());
        for (text, expected) in [
            ("[\"a\", \"b c\"]", json(&["a", "b c"])),
            ("[]", json(&[])),
            ("[ \"a\" ] ", json(&["a"])),
            ("['a']", Arguments::Text("['a']".into())),
            ("[\"a\"", Arguments::Text("[\"a\"".into())),
            ("[\"a\"] b", Arguments::Text("[\"a\"] b".into())),
            ("a [\"b\"]", Arguments::Text("a [\"b\"]".into())),
        ] {
            assert_eq!(maybe_json(text).unwrap(), expected, "{text}");
        }
        assert!(maybe_json("[1, 2]").is_err());
    }
}
