//! `pull`.

use berth_client::Client;
use http::HeaderName;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::progress::{self, Sink};
use crate::reference;

/// The header with credentials for a registry.
pub const AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

#[derive(Debug, clap::Args)]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image verification
    #[arg(long, default_value = "true")]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for Pull {
    const ARGUMENTS: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.words[0];
        let parsed = reference::parse(name)?;
        let named = parsed.tag().is_some() || parsed.digest().is_some();
        if self.all_tags && named {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && !named && !self.quiet {
            println!("Using default tag: latest");
        }
        let client = cli.client().await?;
        let platform = cli.platform(&self.platform);
        let sink = if self.quiet {
            Sink::Nothing
        } else {
            Sink::Stdout
        };
        if self.all_tags {
            request(cli, client, name, "", &platform, sink).await?;
        } else {
            pull(cli, client, name, &platform, sink).await?;
        }
        println!("{}", parsed.or_latest());
        Ok(())
    }
}

/// Pulls one image.
pub async fn pull(cli: &Cli, client: &Client, image: &str, platform: &str, sink: Sink) -> Outcome {
    let full = reference::with_default_tag(image);
    let (repository, tag) = reference::split_tag(&full);
    request(cli, client, repository, tag, platform, sink).await
}

async fn request(
    cli: &Cli,
    client: &Client,
    repository: &str,
    tag: &str,
    platform: &str,
    sink: Sink,
) -> Outcome {
    let lines = client
        .post("/images/create")
        .query("fromImage", repository)
        .query("tag", tag)
        .query("platform", platform)
        .header(AUTH, cli.config.auth_header(repository)?)
        .lines()
        .await?;
    progress::show(lines, sink, |_| {}).await
}
