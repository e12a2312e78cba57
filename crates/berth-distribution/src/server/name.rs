//! Names of repositories and tags (distribution-spec 1.1, "Pulling manifests").

/// The longest repository name, in bytes: host, name and tag together must fit what clients allow.
const NAME_MAX: usize = 255;
/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

/// Whether `text` is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` and more of these after slashes.
pub(crate) fn is_repository(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('/').all(is_component)
}

fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| word(*b));
    if !ends(bytes.first()) || !ends(bytes.last()) {
        return false;
    }
    // What stands between two words must be one of the separators, whole.
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())) {
        let tail = &rest[at..];
        let end = tail
            .find(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .unwrap_or(tail.len());
        let separator = &tail[..end];
        let dashes = separator.bytes().all(|b| b == b'-');
        if !dashes && !matches!(separator, "." | "_" | "__") {
            return false;
        }
        rest = &tail[end..];
    }
    true
}

/// Whether `text` is `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_MAX).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags() {
        for good in ["a", "a/b", "my-web--app", "a.b_c__d/0", "library/python3"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "UPPER/x", "a..b", "a___b", "a._b", "-a", "a-",
            "a:b", "..", "a/../b", "_catalog",
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
        assert!(!is_repository(&"a".repeat(256)));
        for good in ["latest", "v1.0-rc_1", "_x", "3"] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a b", "a:b"] {
            assert!(!is_tag(bad), "{bad}");
        }
        assert!(is_tag(&"t".repeat(128)) && !is_tag(&"t".repeat(129)));
    }
}
