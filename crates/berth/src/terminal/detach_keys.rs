//! The keys that leave a container running: `ctrl-p,ctrl-q` unless the user says otherwise.

/// Docker's own.
pub const DEFAULT: [u8; 2] = [16, 17];

/// Reads `ctrl-p,ctrl-q`, `ctrl-@`, `a,b` …
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut keys = Vec::new();
    for key in text.split(',') {
        keys.push(match key.as_bytes() {
            [byte] => *byte,
            _ => control(key).ok_or_else(|| format!("Unknown character: '{key}'"))?,
        });
    }
    Ok(keys)
}

fn control(key: &str) -> Option<u8> {
    let name = key.strip_prefix("ctrl-")?;
    match name.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

/// Watches input for the keys; what turns out to be something else is let through.
#[derive(Debug)]
pub struct Watcher {
    keys: Vec<u8>,
    matched: usize,
}

/// What a watcher makes of some input.
#[derive(Debug, PartialEq, Eq)]
pub struct Watched {
    /// What goes on to the container.
    pub passed: Vec<u8>,
    /// Whether the keys were complete.
    pub detached: bool,
}

impl Watcher {
    /// A watcher for these keys.
    pub fn new(keys: Vec<u8>) -> Self {
        Watcher { keys, matched: 0 }
    }

    /// Looks at some input.
    pub fn watch(&mut self, input: &[u8]) -> Watched {
        let mut passed = Vec::with_capacity(input.len());
        for &byte in input {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Watched {
                        passed,
                        detached: true,
                    };
                }
            } else {
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = usize::from(self.keys.first() == Some(&byte));
                if self.matched == 0 {
                    passed.push(byte);
                }
            }
        }
        Watched {
            passed,
            detached: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(parse("ctrl-p,ctrl-q"), Ok(vec![16, 17]));
        assert_eq!(parse("a,ctrl-@,ctrl-_"), Ok(vec![b'a', 0, 31]));
        assert!(parse("ctrl-pp").is_err());
    }

    #[test]
    fn what_is_not_the_whole_sequence_is_let_through() {
        let mut watcher = Watcher::new(DEFAULT.to_vec());
        let watched = |passed: &[u8], detached| Watched {
            passed: passed.to_vec(),
            detached,
        };
        assert_eq!(watcher.watch(b"ab\x10"), watched(b"ab", false));
        assert_eq!(watcher.watch(b"c"), watched(b"\x10c", false));
        assert_eq!(watcher.watch(b"\x10\x10"), watched(b"\x10", false));
        assert_eq!(watcher.watch(b"\x11x"), watched(b"", true));
    }
}
