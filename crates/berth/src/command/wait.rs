//! `wait`.

use berth_spec::docker::WaitResponse;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Wait {
    words: Vec<String>,
}

impl Verb for Wait {
    const ARGUMENTS: &'static str = "CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let mut failed = Vec::new();
        for word in &self.words {
            let answer: Result<WaitResponse, _> =
                client.post(format!("/containers/{word}/wait")).json().await;
            match answer {
                Ok(answer) => println!("{}", answer.status_code),
                Err(e) => failed.push(e.to_string()),
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failed.join("\n")))
        }
    }
}
