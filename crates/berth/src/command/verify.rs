//! `image verify`, which Docker does not have.

use berth_spec::docker::image::ImageVerified;

use super::ps::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::rows::{self, Field, Row};
use crate::reference;

const FIELDS: [Field; 6] = [
    ("Name", "IMAGE"),
    ("ID", "IMAGE ID"),
    ("Layers", "LAYERS"),
    ("Blobs", "BLOBS"),
    ("Status", "STATUS"),
    ("Damage", "DAMAGE"),
];

#[derive(Debug, clap::Args)]
pub struct Verify {
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only tell of damage
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for Verify {
    const ARGUMENTS: &'static str = "[OPTIONS] [IMAGE...]";
    const TAKES: Takes = Takes::AtLeast(0);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let mut request = client.post("/images/verify");
        for name in &self.words {
            request = request.query("names", name);
        }
        let verified: Vec<ImageVerified> = request.json().await?;
        let shown: Vec<Row> = verified
            .iter()
            .filter(|image| !self.quiet || !image.damage.is_empty())
            .map(|image| self.row(image))
            .collect();
        let template = match self.format.as_deref().unwrap_or("table") {
            "table" => "table {{.Name}}\t{{.ID}}\t{{.Layers}}\t{{.Blobs}}\t{{.Status}}",
            other => other,
        };
        if !self.quiet || !shown.is_empty() {
            rows::print(template, &FIELDS, shown)?;
        }
        let damage: Vec<String> = verified
            .iter()
            .flat_map(|image| {
                let name = name(image);
                image.damage.iter().map(move |damage| {
                    format!(
                        "{name}: {} {}: {}",
                        damage.kind, damage.digest, damage.problem
                    )
                })
            })
            .collect();
        if damage.is_empty() {
            return Ok(());
        }
        Err(Failure::new(damage.join("\n")))
    }
}

/// Its first name, else its ID.
fn name(image: &ImageVerified) -> String {
    match (image.repo_tags.first(), image.id.as_str()) {
        (Some(name), _) => name.clone(),
        (None, "") => "(no image)".to_owned(),
        (None, id) => id.to_owned(),
    }
}

impl Verify {
    fn row(&self, image: &ImageVerified) -> Row {
        let id = match self.no_trunc {
            true => image.id.as_str(),
            false => reference::short_id(&image.id),
        };
        let name = match image.repo_tags.is_empty() {
            false => image.repo_tags.join(", "),
            true if image.id.is_empty() => "(no image)".to_owned(),
            true => "<none>".to_owned(),
        };
        let damage: Vec<String> = image
            .damage
            .iter()
            .map(|damage| format!("{} {}: {}", damage.kind, damage.digest, damage.problem))
            .collect();
        let status = match damage.is_empty() {
            true => "ok",
            false => "damaged",
        };
        let mut row = Row::default();
        row.set("Name", name)
            .set("ID", id)
            .set("Layers", image.layers.to_string())
            .set("Blobs", image.blobs.to_string())
            .set("Status", status)
            .set("Damage", damage.join("; "));
        row
    }
}
