//! `commit`.

use berth_spec::docker::container::CommitResponse;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::reference;

#[derive(Debug, clap::Args)]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string", default_value = "")]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string", default_value = "")]
    message: String,
    /// Pause container during commit
    #[arg(short, long, default_value = "true")]
    pause: bool,
    words: Vec<String>,
}

impl Verb for Commit {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]";
    const TAKES: Takes = Takes::Between(1, 2);

    async fn run(self, cli: &Cli) -> Outcome {
        let (mut repository, mut tag) = (String::new(), String::new());
        if let Some(name) = self.words.get(1).filter(|name| !name.is_empty()) {
            let parsed = reference::parse(name)?;
            if parsed.digest().is_some() {
                return Err(Failure::new(
                    "refusing to create a tag with a digest reference",
                ));
            }
            let parsed = parsed.or_latest();
            repository = parsed.familiar_name();
            tag = parsed.tag().unwrap_or_default().to_owned();
        }
        let client = cli.client().await?;
        let mut request = client
            .post("/commit")
            .query("container", &self.words[0])
            .query("repo", repository)
            .query("tag", tag)
            .query("comment", &self.message)
            .query("author", &self.author)
            .query("pause", if self.pause { "" } else { "0" });
        for change in &self.change {
            request = request.query("changes", change);
        }
        let made: CommitResponse = request.body_json(&serde_json::Value::Null)?.json().await?;
        println!("{}", made.id);
        Ok(())
    }
}
