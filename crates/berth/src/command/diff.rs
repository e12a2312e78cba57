//! `diff`.

use std::fmt::Write;

use berth_spec::docker::container::Change;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::write_stdout;

#[derive(Debug, clap::Args)]
pub struct Diff {
    words: Vec<String>,
}

impl Verb for Diff {
    const ARGUMENTS: &'static str = "CONTAINER";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        if self.words[0].is_empty() {
            return Err(Failure::new("Container name cannot be empty"));
        }
        let client = cli.client().await?;
        let path = format!("/containers/{}/changes", self.words[0]);
        let changes: Option<Vec<Change>> = client.get(path).json().await?;
        let mut text = String::new();
        for change in changes.into_iter().flatten() {
            let letter = match change.kind {
                0 => 'C',
                1 => 'A',
                _ => 'D',
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{letter} {}", change.path);
        }
        write_stdout(text.as_bytes())
    }
}
