//! `tag`.

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::reference;

#[derive(Debug, clap::Args)]
pub struct Tag {
    words: Vec<String>,
}

impl Verb for Tag {
    const ARGUMENTS: &'static str = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]";
    const TAKES: Takes = Takes::Exactly(2);

    async fn run(self, cli: &Cli) -> Outcome {
        let target = &self.words[1];
        let parsed = reference::parse(target).map_err(|e| {
            Failure::new(format!(
                "Error parsing reference: {target:?} is not a valid repository/tag: {e}"
            ))
        })?;
        if parsed.digest().is_some() {
            return Err(Failure::new(
                "refusing to create a tag with a digest reference",
            ));
        }
        let parsed = parsed.or_latest();
        let client = cli.client().await?;
        Ok(client
            .post(format!("/images/{}/tag", self.words[0]))
            .query("repo", parsed.familiar_name())
            .query("tag", parsed.tag().unwrap_or_default())
            .done()
            .await?)
    }
}
