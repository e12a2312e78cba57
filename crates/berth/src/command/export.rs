//! `export`.

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::output::Output;

#[derive(Debug, clap::Args)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string", default_value = "")]
    output: String,
    words: Vec<String>,
}

impl Verb for Export {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let output = Output::open(&self.output, "failed to export container")?;
        let client = cli.client().await?;
        let path = format!("/containers/{}/export", self.words[0]);
        output.fill(client.get(path).send().await?.reader()).await
    }
}
