//! Patterns of repository names: `*` stands for anything but a slash, `**` for anything.

use serde::{Deserialize, Deserializer};

/// A pattern, as a configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes the text as a pattern; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it stands for `name`.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }

    /// Whether it stands for everything.
    pub fn is_everything(&self) -> bool {
        self.0 == "**"
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Pattern)
    }
}

/// Linear in the name for each star: a star gives back only what the last one took.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows a star does not fit: for `*` and for `**` apart, since a name
    // that leaves a component must go back to the last `**`.
    let (mut single, mut double) = (None, None);
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            double = Some((p, n));
            single = None;
        } else if pattern.get(p) == Some(&b'*') {
            p += 1;
            single = Some((p, n));
        } else if p == pattern.len() && n == name.len() {
            return true;
        } else if p < pattern.len() && n < name.len() && pattern[p] == name[n] {
            (p, n) = (p + 1, n + 1);
        } else {
            match (single, double) {
                (Some((to, from)), _) if from < name.len() && name[from] != b'/' => {
                    single = Some((to, from + 1));
                    (p, n) = (to, from + 1);
                }
                (_, Some((to, from))) if from < name.len() => {
                    single = None;
                    double = Some((to, from + 1));
                    (p, n) = (to, from + 1);
                }
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_names() {
        for (pattern, yes, no) in [
            ("team/app", "team/app", "team/app2"),
            ("team/*", "team/app", "team/app/x"),
            ("team/**", "team/app/x", "teams/app"),
            ("**", "a/b/c", ""),
            ("**/cache", "a/b/cache", "a/b/cached"),
            ("v*", "v1.2", "1.2"),
            ("*-rc*", "1.0-rc1", "1.0"),
            ("**/x/*/z", "a/x/b/x/y/z", "a/x/b/y/z"),
        ] {
            let pattern = Pattern::new(pattern);
            assert!(pattern.matches(yes), "{pattern:?} {yes}");
            assert!(
                pattern.is_everything() || !pattern.matches(no),
                "{pattern:?} {no}"
            );
        }
        let slow = Pattern::new("*a*a*a*a*a*a*a*a*b");
        assert!(!slow.matches(&"a".repeat(255)));
    }
}
