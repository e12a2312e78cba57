//! `history`.

use berth_spec::docker::image::HistoryEntry;

use super::ps::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::rows::{self, Field, Row, ellipsis};
use crate::format::{size, time};
use crate::reference;

const FIELDS: [Field; 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Moments before this (2000-01-01) are of builds that set none.
const EPOCH: i64 = 946_684_800;

#[derive(Debug, clap::Args)]
pub struct History {
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for History {
    const ARGUMENTS: &'static str = "[OPTIONS] IMAGE";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let entries: Vec<HistoryEntry> = client
            .get(format!("/images/{}/history", self.words[0]))
            .query("platform", &self.platform)
            .json()
            .await?;
        let template = match self.format.as_deref().unwrap_or("table") {
            "table" if self.quiet => "{{.ID}}",
            "table" if self.human => {
                "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
            }
            "table" => "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            other => other,
        };
        let rows = entries.iter().map(|entry| self.row(entry)).collect();
        rows::print(template, &FIELDS, rows)
    }
}

impl History {
    fn row(&self, entry: &HistoryEntry) -> Row {
        let created_at = time::rfc3339(entry.created);
        let since = match (self.human, entry.created) {
            (false, _) => created_at.clone(),
            (true, ..=EPOCH) => "N/A".to_owned(),
            (true, created) => time::ago(created),
        };
        let by = entry.created_by.replace('\t', " ");
        let (id, by) = if self.no_trunc {
            (entry.id.as_str(), by)
        } else {
            (reference::short_id(&entry.id), ellipsis(&by, 45))
        };
        let bytes = if self.human {
            size::short(entry.size as f64)
        } else {
            entry.size.to_string()
        };
        let mut row = Row::default();
        row.set("ID", id)
            .set("CreatedAt", created_at)
            .set("CreatedSince", since)
            .set("CreatedBy", by)
            .set("Size", bytes)
            .set("Comment", entry.comment.clone());
        row
    }
}
