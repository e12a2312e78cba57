//! The progress of long operations: bars in a terminal, lines elsewhere.

mod bar;

use std::collections::HashMap;
use std::io::{self, Write};

use berth_client::Lines;
use berth_spec::docker::JsonMessage;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::terminal;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere; errors are still errors.
    Nothing,
}

/// Shows a stream of messages until its end; a message of failure ends it. What is meant
/// for programs goes to `aux`.
pub async fn show(
    mut lines: Lines<JsonMessage>,
    sink: Sink,
    mut aux: impl FnMut(&Value),
) -> Outcome {
    let (columns, is_terminal) = match sink {
        Sink::Stdout => (terminal::size::of_stdout(), terminal::stdout_is_terminal()),
        Sink::Stderr => (terminal::size::of_stderr(), terminal::stderr_is_terminal()),
        Sink::Nothing => (None, false),
    };
    let mut display = Display {
        is_terminal,
        columns: columns.map_or(200, |size| usize::from(size.columns)),
        places: HashMap::new(),
    };
    while let Some(message) = lines.next().await? {
        if let Some(value) = &message.aux {
            aux(value);
            continue;
        }
        let failed = failure(&message);
        let text = display.text(&message, failed.is_some());
        match sink {
            Sink::Stdout => write(io::stdout().lock(), &text)?,
            Sink::Stderr => write(io::stderr().lock(), &text)?,
            Sink::Nothing => {}
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
    }
    Ok(())
}

fn write(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The failure that a message tells of.
pub fn failure(message: &JsonMessage) -> Option<Failure> {
    let detail = message.error_detail.as_ref();
    let text = detail.map_or("", |detail| detail.message.as_str());
    let text = if text.is_empty() {
        &message.error
    } else {
        text
    };
    if text.is_empty() {
        return None;
    }
    let code = detail.map_or(0, |detail| detail.code);
    Some(Failure::with_code(
        u8::try_from(code)
            .ok()
            .filter(|&code| code > 0)
            .unwrap_or(1),
        text,
    ))
}

struct Display {
    is_terminal: bool,
    columns: usize,
    /// Which line, counted from the first, shows what has this ID.
    places: HashMap<String, usize>,
}

impl Display {
    /// What is written for a message, cursor movement included.
    fn text(&mut self, message: &JsonMessage, failed: bool) -> String {
        let mut out = String::new();
        let has_progress = message.progress_detail.is_some() || !message.progress.is_empty();
        let mut below = 0;
        if !message.id.is_empty() && has_progress {
            let next = self.places.len();
            let place = match self.places.get(&message.id) {
                Some(place) => *place,
                None => {
                    self.places.insert(message.id.clone(), next);
                    if self.is_terminal {
                        out.push('\n');
                    }
                    next
                }
            };
            below = self.places.len() - place;
            if self.is_terminal {
                out.push_str(&format!("\x1b[{below}A"));
            }
        } else {
            // What stands above is history now.
            self.places.clear();
        }
        if !failed {
            self.line(message, &mut out);
        }
        if !message.id.is_empty() && self.is_terminal {
            out.push_str(&format!("\x1b[{below}B"));
        }
        out
    }

    fn line(&self, message: &JsonMessage, out: &mut String) {
        let bar = message
            .progress_detail
            .as_ref()
            .map(|detail| bar::text(detail, self.columns));
        let redraw = self.is_terminal && message.stream.is_empty() && bar.is_some();
        let end = if redraw { "\r" } else { "" };
        if redraw {
            out.push_str("\x1b[2K\r");
        } else if bar.as_deref().is_some_and(|bar| !bar.is_empty()) {
            // Without a terminal only what is said once is shown.
            return;
        }
        if !message.id.is_empty() {
            out.push_str(&format!("{}: ", message.id));
        }
        match bar {
            Some(bar) if self.is_terminal => {
                out.push_str(&format!("{} {bar}{end}", message.status));
            }
            _ if !message.progress.is_empty() => {
                out.push_str(&format!("{} {}{end}", message.status, message.progress));
            }
            _ if !message.stream.is_empty() => {
                out.push_str(&message.stream);
                out.push_str(end);
            }
            _ => out.push_str(&format!("{}{end}\n", message.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_spec::docker::stream::ProgressDetail;

    fn display(is_terminal: bool) -> Display {
        Display {
            is_terminal,
            columns: 120,
            places: HashMap::new(),
        }
    }

    #[test]
    fn lines_elsewhere_bars_in_a_terminal() {
        let begin = JsonMessage::progress("a", "Pulling fs layer", ProgressDetail::default());
        let half = JsonMessage::progress(
            "a",
            "Downloading",
            ProgressDetail {
                current: 50,
                total: 100,
                ..ProgressDetail::default()
            },
        );
        let mut plain = display(false);
        assert_eq!(plain.text(&begin, false), "a: Pulling fs layer\n");
        assert_eq!(plain.text(&half, false), "");
        let mut tty = display(true);
        assert_eq!(
            tty.text(&begin, false),
            "\n\x1b[1A\x1b[2K\ra: Pulling fs layer \r\x1b[1B"
        );
        let bar = format!("[{}>{}]", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            tty.text(&half, false),
            format!("\x1b[1A\x1b[2K\ra: Downloading {bar}      50B/100B\r\x1b[1B")
        );
        assert_eq!(
            tty.text(&JsonMessage::stream("Step 1/1 : FROM x\n"), false),
            "Step 1/1 : FROM x\n"
        );
    }

    #[test]
    fn a_failure_has_its_code() {
        let failed = failure(&JsonMessage::error_code(7, "no")).unwrap();
        assert_eq!((failed.code, &*failed.message), (7, "no"));
        assert_eq!(failure(&JsonMessage::error("no")).unwrap().code, 1);
        assert!(failure(&JsonMessage::status("fine")).is_none());
    }
}
