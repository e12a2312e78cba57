//! `rmi`.

use berth_spec::docker::image::ImageDeleted;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<String>,
    words: Vec<String>,
}

impl Verb for Remove {
    const ARGUMENTS: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let (mut failed, mut fatal) = (Vec::new(), false);
        for name in &self.words {
            let mut request = client
                .delete(format!("/images/{name}"))
                .flag("force", self.force)
                .flag("noprune", self.no_prune);
            for platform in &self.platform {
                request = request.query("platforms", platform);
            }
            let removed: Result<Vec<ImageDeleted>, _> = request.json().await;
            match removed {
                Ok(removed) => {
                    for one in removed {
                        if one.deleted.is_empty() {
                            println!("Untagged: {}", one.untagged);
                        } else {
                            println!("Deleted: {}", one.deleted);
                        }
                    }
                }
                Err(e) => {
                    fatal |= !e.is_not_found();
                    failed.push(e.to_string());
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        if self.force && !fatal {
            eprintln!("{}", failed.join("\n"));
            return Ok(());
        }
        Err(Failure::new(failed.join("\n")))
    }
}
