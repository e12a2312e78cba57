//! Command lines as one writes them: `engine.line("run --rm busybox sh -c 'echo hi'")`.

use crate::engine::{Engine, Ran};

/// The words of a line: separated by spaces, and held together by single quotes.
///
/// # Panics
/// Where a quote is not closed.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    assert!(!quoted, "a quote is open in {line:?}");
    if begun {
        words.push(word);
    }
    words
}

impl Engine {
    /// Runs `berth LINE`.
    pub fn run_line(&self, line: &str) -> Ran {
        let words = words(line);
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs `berth LINE`, which must succeed; its output without the last newline.
    pub fn line(&self, line: &str) -> String {
        let words = words(line);
        self.ok(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs `berth LINE`, which must end with `code`; its standard error.
    pub fn line_fails(&self, code: i32, line: &str) -> String {
        let words = words(line);
        self.fails(code, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            super::words("run  -e A= sh -c 'echo \"a  b\"' ''"),
            ["run", "-e", "A=", "sh", "-c", "echo \"a  b\"", ""]
        );
    }
}
