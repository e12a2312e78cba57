//! Percent encoding of what goes into a request's path and query.

/// Encodes a path segment or a query value: all but letters, digits and `-._~` is escaped.
pub fn escape(text: &str) -> String {
    encode(text, b"-._~")
}

/// Encodes a name inside a path: an image's slashes and its `:` and `@` stay readable.
pub(crate) fn escape_path(text: &str) -> String {
    encode(text, b"-._~/:@=+,")
}

fn encode(text: &str, kept: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_part_is_escaped() {
        assert_eq!(escape("a b/c?d&e=f"), "a%20b%2Fc%3Fd%26e%3Df");
        assert_eq!(escape_path("/images/a/b:c@d?e#"), "/images/a/b:c@d%3Fe%23");
        assert_eq!(escape("ü"), "%C3%BC");
    }
}
