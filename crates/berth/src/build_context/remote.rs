//! Contexts that the engine fetches: repositories and addresses.

/// Whether this is the address of a repository or of an archive or Dockerfile.
pub(super) fn is_address(text: &str) -> bool {
    [
        "http://",
        "https://",
        "git://",
        "ssh://",
        "github.com/",
        "git@",
    ]
    .iter()
    .any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("https://example.com/x.git#main:dir", true),
            ("http://example.com/Dockerfile", true),
            ("git@example.com:x/y.git", true),
            ("github.com/x/y", true),
            ("./dir", false),
            ("example.com/x", false),
        ] {
            assert_eq!(is_address(text), expected, "{text}");
        }
    }
}
