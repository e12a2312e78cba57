//! `WWW-Authenticate` as registries send it (RFC 9110 §11.6.1, distribution's token.md).

/// What a registry wants to see before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A name and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// What the token is for.
        service: Option<String>,
        /// What it must allow, as the registry sees it.
        scope: Option<String>,
    },
}

/// The first challenge in `header` that we can answer; `Bearer` is preferred.
pub(crate) fn parse(header: &str) -> Option<Challenge> {
    let mut basic = false;
    let mut rest = header.trim();
    while !rest.is_empty() {
        let (scheme, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let (parameters, next) = parse_parameters(after);
        if scheme.eq_ignore_ascii_case("bearer") {
            let find = |name: &str| {
                parameters
                    .iter()
                    .find(|(n, _)| n.eq_ignore_ascii_case(name))
                    .map(|(_, v)| v.clone())
            };
            if let Some(realm) = find("realm") {
                return Some(Challenge::Bearer {
                    realm,
                    service: find("service"),
                    scope: find("scope"),
                });
            }
        }
        basic |= scheme.eq_ignore_ascii_case("basic");
        rest = next;
    }
    basic.then_some(Challenge::Basic)
}

/// `name="value", …` up to where the next scheme begins, and what follows.
fn parse_parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',', '\t']);
        let Some(end) = text.find(['=', ' ', ',']) else {
            return (found, "");
        };
        if !text[end..].starts_with('=') {
            // A word without `=` is the next scheme.
            return (found, text);
        }
        let (name, value) = (&text[..end], &text[end + 1..]);
        let (value, rest) = if let Some(quoted) = value.strip_prefix('"') {
            unquote(quoted)
        } else {
            let end = value.find([',', ' ']).unwrap_or(value.len());
            (value[..end].to_owned(), &value[end..])
        };
        found.push((name.to_owned(), value));
        text = rest;
    }
}

/// The text up to the closing quote, with `\x` as `x`, and what follows.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &text[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        })
    }

    #[test]
    fn challenges_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:library/a:pull,push""#;
        assert_eq!(
            parse(hub),
            bearer(
                "https://auth.example/token",
                Some("registry.example"),
                Some("repository:library/a:pull,push")
            )
        );
        assert_eq!(
            parse(r#"Basic realm="Registry Realm""#),
            Some(Challenge::Basic)
        );
        assert_eq!(
            parse(r#"Basic realm="a", Bearer realm="https://t""#),
            bearer("https://t", None, None)
        );
        assert_eq!(
            parse(r#"bearer realm="a\"b\\c""#),
            bearer("a\"b\\c", None, None)
        );
        assert_eq!(parse("Bearer service=x"), None);
        assert_eq!(parse("Negotiate"), None);
        assert_eq!(parse(""), None);
        assert_eq!(
            parse(r#"Bearer realm="unclosed"#),
            bearer("unclosed", None, None)
        );
    }
}
