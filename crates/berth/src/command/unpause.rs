//! `unpause`.

use super::each::each;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;

#[derive(Debug, clap::Args)]
pub struct Unpause {
    words: Vec<String>,
}

impl Verb for Unpause {
    const ARGUMENTS: &'static str = "CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        each(&self.words, |word| async move {
            let path = format!("/containers/{word}/unpause");
            client.post(path).done().await.map(|()| word)
        })
        .await
    }
}
