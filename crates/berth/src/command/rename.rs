//! `rename`.

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Rename {
    words: Vec<String>,
}

impl Verb for Rename {
    const ARGUMENTS: &'static str = "CONTAINER NEW_NAME";
    const TAKES: Takes = Takes::Exactly(2);

    async fn run(self, cli: &Cli) -> Outcome {
        let (old, new) = (self.words[0].trim(), self.words[1].trim());
        if old.is_empty() || new.is_empty() {
            return Err(Failure::new(
                "Error: Neither old nor new names may be empty",
            ));
        }
        let client = cli.client().await?;
        let renamed = client
            .post(format!("/containers/{old}/rename"))
            .query("name", new)
            .done()
            .await;
        renamed.map_err(|e| {
            Failure::new(format!(
                "{e}\nError: failed to rename container named {old}"
            ))
        })
    }
}
