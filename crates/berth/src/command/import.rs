//! `import`.

use berth_client::Body;

use super::{Takes, Verb};
use crate::archive;
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::progress::{self, Sink};

#[derive(Debug, clap::Args)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string", default_value = "")]
    message: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    words: Vec<String>,
}

impl Verb for Import {
    const ARGUMENTS: &'static str = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let source = self.words[0].as_str();
        let url = ["http://", "https://"]
            .iter()
            .any(|p| source.starts_with(p));
        let body = match source {
            "-" => archive::stdin(),
            _ if url => Body::Empty,
            path => {
                let file = tokio::fs::File::open(path).await;
                Body::from_reader(file.map_err(|e| {
                    Failure::new(format!("open {path}: {}", crate::failure::why(&e)))
                })?)
            }
        };
        let client = cli.client().await?;
        let mut request = client
            .post("/images/create")
            .query("fromSrc", if url { source } else { "-" })
            .query("repo", self.words.get(1).map_or("", String::as_str))
            .query("message", &self.message)
            .query("platform", cli.platform(&self.platform));
        for change in &self.change {
            request = request.query("changes", change);
        }
        let lines = request.body("text/plain", body).lines().await?;
        progress::show(lines, Sink::Stdout, |_| {}).await
    }
}
