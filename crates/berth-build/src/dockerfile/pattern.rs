//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, no brackets.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    AnyChar,
    AnyText,
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Piece>);

impl Pattern {
    /// Reads a pattern; `\*`, `\?` and `\\` are literal, `\/` and `\}` were escaped for the lexer.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::AnyText,
                '?' => Piece::AnyChar,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '/' | '}')) => Piece::Char(c),
                    other => {
                        let other = other.map(String::from).unwrap_or_default();
                        return Err(format!(
                            "invalid pattern ({text}) in substitution: invalid escape '\\{other}'"
                        ));
                    }
                },
                c => Piece::Char(c),
            });
        }
        Ok(Pattern(pieces))
    }

    /// All byte lengths of prefixes of `text` that match. A table of reachable positions instead of
    /// backtracking: linear in pattern times text, whatever the pattern.
    fn prefixes(&self, text: &str) -> Vec<usize> {
        let chars: Vec<char> = text.chars().collect();
        let mut reachable = vec![false; chars.len() + 1];
        reachable[0] = true;
        for piece in &self.0 {
            let mut next = vec![false; chars.len() + 1];
            match piece {
                Piece::AnyText => {
                    let mut on = false;
                    for (slot, &here) in next.iter_mut().zip(&reachable) {
                        on |= here;
                        *slot = on;
                    }
                }
                piece => {
                    for (i, &c) in chars.iter().enumerate() {
                        let fits = *piece == Piece::AnyChar || *piece == Piece::Char(c);
                        next[i + 1] = reachable[i] && fits;
                    }
                }
            }
            reachable = next;
        }
        let mut lengths = Vec::new();
        let mut length = 0;
        for (i, &here) in reachable.iter().enumerate() {
            if here {
                lengths.push(length);
            }
            length += chars.get(i).map_or(0, |c| c.len_utf8());
        }
        lengths
    }

    fn reversed(&self) -> Pattern {
        Pattern(self.0.iter().rev().copied().collect())
    }

    /// `text` without the shortest or longest matching start.
    pub(super) fn trim_start<'t>(&self, text: &'t str, longest: bool) -> &'t str {
        let lengths = self.prefixes(text);
        let cut = if longest {
            lengths.last()
        } else {
            lengths.first()
        };
        &text[cut.copied().unwrap_or(0)..]
    }

    /// `text` without the shortest or longest matching end.
    pub(super) fn trim_end<'t>(&self, text: &'t str, longest: bool) -> &'t str {
        let mirrored: String = text.chars().rev().collect();
        let lengths = self.reversed().prefixes(&mirrored);
        let cut = if longest {
            lengths.last()
        } else {
            lengths.first()
        };
        &text[..text.len() - cut.copied().unwrap_or(0)]
    }

    /// `text` with the first match, or all, replaced; each match is the longest at its place.
    pub(super) fn replace(&self, text: &str, by: &str, all: bool) -> String {
        let mut result = String::new();
        let mut rest = text;
        // Every place is tried once and costs at most the whole text: bound the product.
        let mut places = 4096usize;
        loop {
            let longest = self.prefixes(rest).last().copied();
            match longest {
                Some(length) if length > 0 || (self.0.is_empty() && !all) => {
                    result.push_str(by);
                    rest = &rest[length..];
                    if !all {
                        break;
                    }
                }
                Some(_) if rest.is_empty() && !all => {
                    result.push_str(by);
                    break;
                }
                _ => {}
            }
            let Some(c) = rest.chars().next() else { break };
            if longest.is_none_or(|length| length == 0) {
                result.push(c);
                rest = &rest[c.len_utf8()..];
            }
            places -= 1;
            if places == 0 {
                break;
            }
        }
        result.push_str(rest);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_and_longest() {
        let table = [
            ("*b", "abab", "ab", ""),
            ("a*", "abab", "bab", ""),
            ("", "abab", "abab", "abab"),
            ("?", "é1", "1", "1"),
        ];
        for (pattern, text, short, long) in table {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.trim_start(text, false), short);
            assert_eq!(pattern.trim_start(text, true), long);
        }
        let end = Pattern::parse("b*").unwrap();
        assert_eq!(end.trim_end("abab", false), "aba");
        assert_eq!(end.trim_end("abab", true), "a");
        assert!(Pattern::parse("\\a").is_err());
    }

    #[test]
    fn a_nasty_pattern_is_not_slow() {
        let pattern = Pattern::parse(&"*a".repeat(200)).unwrap();
        assert_eq!(pattern.trim_start(&"b".repeat(5000), true).len(), 5000);
    }
}
