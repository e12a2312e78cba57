//! `logs`.

use berth_spec::docker::ContainerInspect;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::time;
use crate::terminal::streams;

#[derive(Debug, clap::Args)]
pub struct Logs {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", default_value = "")]
    since: String,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "string", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", default_value = "")]
    until: String,
    words: Vec<String>,
}

fn moment(name: &str, text: &str) -> Outcome<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    time::moment(text).map_err(|e| Failure::new(format!("invalid value for {name:?}: {e}")))
}

impl Verb for Logs {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let name = &self.words[0];
        let container: ContainerInspect = client
            .get(format!("/containers/{name}/json"))
            .json()
            .await?;
        let response = client
            .get(format!("/containers/{}/logs", container.id))
            .flag("stdout", true)
            .flag("stderr", true)
            .query("since", moment("since", &self.since)?)
            .query("until", moment("until", &self.until)?)
            .flag("timestamps", self.timestamps)
            .flag("details", self.details)
            .flag("follow", self.follow)
            .query("tail", &self.tail)
            .send()
            .await?;
        let mut reader = response.reader();
        match streams::copy_output(&mut reader, container.config.tty, true, true).await {
            // Whoever read our output has had enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}
