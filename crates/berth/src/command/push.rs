//! `push`.

use super::pull::AUTH;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::progress::{self, Sink};
use crate::reference;

#[derive(Debug, clap::Args)]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image signing
    #[arg(long, default_value = "true")]
    disable_content_trust: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for Push {
    const ARGUMENTS: &'static str = "[OPTIONS] NAME[:TAG]";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let parsed = reference::parse(&self.words[0])?;
        if self.all_tags && parsed.tag().is_some() {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        let parsed = if self.all_tags {
            parsed
        } else {
            if parsed.tag().is_none() && !self.quiet {
                println!("Using default tag: latest");
            }
            parsed.or_latest()
        };
        let repository = parsed.familiar_name();
        let client = cli.client().await?;
        let lines = client
            .post(format!("/images/{repository}/push"))
            .query("tag", parsed.tag().unwrap_or_default())
            .header(AUTH, cli.config.auth_header(&repository)?)
            .lines()
            .await?;
        let sink = if self.quiet {
            Sink::Nothing
        } else {
            Sink::Stdout
        };
        // What was pushed is told by the lines; what comes beside them is for programs.
        progress::show(lines, sink, |_| {}).await?;
        if self.quiet {
            println!("{parsed}");
        }
        Ok(())
    }
}
