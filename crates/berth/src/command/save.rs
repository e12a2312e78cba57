//! `save`.

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::output::Output;

#[derive(Debug, clap::Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string", default_value = "")]
    output: String,
    /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    words: Vec<String>,
}

impl Verb for Save {
    const ARGUMENTS: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let output = Output::open(&self.output, "failed to save image")?;
        let client = cli.client().await?;
        let mut request = client.get("/images/get").query("platform", &self.platform);
        for name in &self.words {
            request = request.query("names", name);
        }
        output.fill(request.send().await?.reader()).await
    }
}
