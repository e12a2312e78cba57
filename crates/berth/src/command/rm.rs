//! `rm`.

use futures_util::stream::{self, StreamExt};

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};

/// How many are removed at a time.
const AT_ONCE: usize = 50;

#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    words: Vec<String>,
}

impl Verb for Remove {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let mut results = stream::iter(self.words.clone())
            .map(|word| async {
                let name = word.trim_matches('/');
                if name.is_empty() {
                    return (word, Err(Failure::new("container name cannot be empty")));
                }
                let removed = client
                    .delete(format!("/containers/{name}"))
                    .flag("v", self.volumes)
                    .flag("link", self.link)
                    .flag("force", self.force)
                    .done()
                    .await;
                (word, removed.map_err(Failure::from))
            })
            .buffered(AT_ONCE);
        let mut failed = Vec::new();
        while let Some((word, result)) = results.next().await {
            match result {
                Ok(()) => println!("{word}"),
                Err(e) if self.force && e.not_found => eprintln!("{e}"),
                Err(e) => failed.push(e.message),
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failed.join("\n")))
        }
    }
}
