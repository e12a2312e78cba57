//! `kill`.

use super::each::each;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;

#[derive(Debug, clap::Args)]
pub struct Kill {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string", default_value = "")]
    signal: String,
    words: Vec<String>,
}

impl Verb for Kill {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let signal = &self.signal;
        each(&self.words, |word| async move {
            client
                .post(format!("/containers/{word}/kill"))
                .query("signal", signal)
                .done()
                .await
                .map(|()| word)
        })
        .await
    }
}
