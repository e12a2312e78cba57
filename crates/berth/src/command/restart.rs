//! `restart`.

use super::stop::Ending;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;

#[derive(Debug, clap::Args)]
pub struct Restart {
    #[command(flatten)]
    ending: Ending,
}

impl Verb for Restart {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        self.ending.ask(cli, "restart").await
    }
}
