//! `top`.

use berth_spec::docker::container::TopResponse;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::rows::aligned_to;
use crate::format::write_stdout;

#[derive(Debug, clap::Args)]
pub struct Top {
    words: Vec<String>,
}

impl Verb for Top {
    const ARGUMENTS: &'static str = "CONTAINER [ps OPTIONS]";
    const TAKES: Takes = Takes::AtLeast(1);
    const FIRST_WORD_ENDS_OPTIONS: bool = true;

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let processes: TopResponse = client
            .get(format!("/containers/{}/top", self.words[0]))
            .query("ps_args", self.words[1..].join(" "))
            .json()
            .await?;
        let mut text = processes.titles.join("\t");
        text.push('\n');
        for process in &processes.processes {
            text.push_str(&process.join("\t"));
            text.push('\n');
        }
        write_stdout(aligned_to(&text, 20, 3).as_bytes())
    }
}
