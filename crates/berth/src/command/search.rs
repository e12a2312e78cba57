//! `search`.

use berth_spec::docker::image::SearchResult;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::rows::{self, Field, Row, ellipsis};
use crate::option::filter::{self, Filters};
use crate::option::value;

const FIELDS: [Field; 5] = [
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

#[derive(Debug, clap::Args)]
pub struct Search {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int", value_parser = value::int)]
    limit: Option<i64>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    words: Vec<String>,
}

impl Verb for Search {
    const ARGUMENTS: &'static str = "[OPTIONS] TERM";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let found: Vec<SearchResult> = client
            .get("/images/search")
            .query("term", &self.words[0])
            .query(
                "limit",
                self.limit.map(|n| n.to_string()).unwrap_or_default(),
            )
            .query("filters", Filters::new(&self.filter)?.to_query())
            .json()
            .await?;
        let template = match self.format.as_deref().unwrap_or("table") {
            "table" => "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
            other => other,
        };
        let ok = |yes: bool| if yes { "[OK]" } else { "" };
        let rows = found.iter().map(|result| {
            let description = result.description.replace(['\n', '\r'], " ");
            let mut row = Row::default();
            row.set("Name", result.name.clone())
                .set(
                    "Description",
                    if self.no_trunc {
                        description
                    } else {
                        ellipsis(&description, 45)
                    },
                )
                .set("StarCount", result.star_count.to_string())
                .set("IsOfficial", ok(result.is_official))
                .set("IsAutomated", ok(result.is_automated));
            row
        });
        rows::print(template, &FIELDS, rows.collect())
    }
}
