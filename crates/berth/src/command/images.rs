//! `images`.

use std::collections::BTreeMap;

use berth_spec::docker::ImageSummary;

use super::ps::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::rows::{self, Field, Format, Row};
use crate::format::{size, time};
use crate::option::filter::{self, Filters};
use crate::reference;

/// The titles of what an image's row has.
pub const FIELDS: [Field; 11] = [
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

#[derive(Debug, clap::Args)]
pub struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for Images {
    const ARGUMENTS: &'static str = "[OPTIONS] [REPOSITORY[:TAG]]";
    const TAKES: Takes = Takes::AtMost(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let mut filters = Filters::new(&self.filter)?;
        if let Some(name) = self.words.first() {
            filters.add("reference", name);
        }
        let client = cli.client().await?;
        let images: Vec<ImageSummary> = client
            .get("/images/json")
            .flag("all", self.all)
            .query("filters", filters.to_query())
            .json()
            .await?;
        let given = self.format.as_deref();
        let given = given.or(cli.config.format("imagesFormat").filter(|_| !self.quiet));
        let template = self.template(given.unwrap_or("table"));
        let digests = self.digests || Format::new(&template).names("Digest");
        let rows = images
            .iter()
            .flat_map(|image| rows_of(image, digests, self.digests, !self.no_trunc))
            .collect();
        rows::print(&template, &FIELDS, rows)
    }
}

impl Images {
    fn template(&self, given: &str) -> String {
        let digest = if self.digests { "\t{{.Digest}}" } else { "" };
        match given {
            "table" if self.quiet => "{{.ID}}".to_owned(),
            "table" => format!(
                "table {{{{.Repository}}}}\t{{{{.Tag}}}}{digest}\t{{{{.ID}}}}\t{{{{if .CreatedSince }}}}{{{{.CreatedSince}}}}{{{{else}}}}N/A{{{{end}}}}\t{{{{.Size}}}}"
            ),
            "raw" if self.quiet => "image_id: {{.ID}}".to_owned(),
            "raw" => {
                let digest = if self.digests {
                    "digest: {{.Digest}}\n"
                } else {
                    ""
                };
                format!(
                    "repository: {{{{ .Repository }}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
                )
            }
            other if other.starts_with("table") && !other.contains("{{.Digest}}") => {
                format!("{other}{digest}")
            }
            other => other.to_owned(),
        }
    }
}

/// Names with their tags or digests, in the order the engine tells them.
fn grouped<'a>(
    names: &'a [String],
    split: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, value) in names.iter().filter_map(|name| split(name)) {
        match groups.iter_mut().find(|(n, _)| *n == name) {
            Some((_, values)) => values.push(value),
            None => groups.push((name, vec![value])),
        }
    }
    groups
}

/// An image's rows: one for each of its names.
pub fn rows_of(
    image: &ImageSummary,
    need_digest: bool,
    show_digest: bool,
    truncate: bool,
) -> Vec<Row> {
    let none = "<none>";
    let tags = grouped(&image.repo_tags, |name| {
        Some(reference::split_tag(name)).filter(|(name, tag)| *name != none && !tag.is_empty())
    });
    let mut digests: BTreeMap<&str, Vec<&str>> = grouped(&image.repo_digests, |name| {
        name.split_once('@').filter(|(name, _)| *name != none)
    })
    .into_iter()
    .collect();
    let mut rows = Vec::new();
    let mut add = |repository: &str, tag: &str, digest: &str| {
        rows.push(row(image, repository, tag, digest, truncate));
    };
    if tags.is_empty() && digests.is_empty() {
        add(none, none, none);
    }
    for (repository, tags) in tags {
        let own = digests.remove(repository).unwrap_or_default();
        for tag in tags {
            if own.is_empty() || !need_digest {
                add(repository, tag, none);
            } else {
                own.iter().for_each(|digest| add(repository, tag, digest));
            }
        }
    }
    for (repository, digests) in digests {
        if show_digest {
            digests
                .iter()
                .for_each(|digest| add(repository, none, digest));
        } else {
            add(repository, none, "");
        }
    }
    rows
}

fn row(image: &ImageSummary, repository: &str, tag: &str, digest: &str, truncate: bool) -> Row {
    let count = |n: i64| {
        if n < 0 {
            "N/A".to_owned()
        } else {
            n.to_string()
        }
    };
    let bytes = |n: i64| {
        if n < 0 {
            "N/A".to_owned()
        } else {
            size::human(n as f64)
        }
    };
    let unique = if image.shared_size < 0 {
        -1
    } else {
        image.size - image.shared_size
    };
    let mut row = Row::default();
    row.set(
        "ID",
        if truncate {
            reference::short_id(&image.id)
        } else {
            &image.id
        },
    )
    .set("Repository", repository)
    .set("Tag", tag)
    .set("Digest", digest)
    .set("CreatedSince", time::ago(image.created))
    .set("CreatedAt", time::local(image.created))
    .set("Size", size::short(image.size as f64))
    .set("Containers", count(image.containers))
    .set("VirtualSize", size::human(image.size as f64))
    .set("SharedSize", bytes(image.shared_size))
    .set("UniqueSize", bytes(unique))
    .set_labels(image.labels.as_ref().unwrap_or(&BTreeMap::new()));
    row
}
