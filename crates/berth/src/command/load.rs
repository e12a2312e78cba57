//! `load`.

use berth_client::Body;
use tokio::io::AsyncReadExt;

use super::{Takes, Verb};
use crate::archive;
use crate::cli::Cli;
use crate::failure::{Failure, Outcome, why};
use crate::format::write_stdout;
use crate::progress::{self, Sink};
use crate::terminal;

#[derive(Debug, clap::Args)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string", default_value = "")]
    input: String,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for Load {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let body = if self.input.is_empty() {
            if terminal::stdin_is_terminal() {
                return Err(Failure::new(
                    "requested load from stdin, but stdin is empty",
                ));
            }
            archive::stdin()
        } else {
            let file = tokio::fs::File::open(&self.input).await;
            Body::from_reader(
                file.map_err(|e| Failure::new(format!("open {}: {}", self.input, why(&e))))?,
            )
        };
        let quiet = self.quiet || !terminal::stdout_is_terminal();
        let client = cli.client().await?;
        let response = client
            .post("/images/load")
            .query("quiet", if quiet { "1" } else { "0" })
            .query("platform", &self.platform)
            .body("application/x-tar", body)
            .send()
            .await?;
        if response.header("content-type") == Some("application/json") {
            return progress::show(response.lines(), Sink::Stdout, |_| {}).await;
        }
        let mut text = Vec::new();
        response.reader().read_to_end(&mut text).await?;
        write_stdout(&text)
    }
}
