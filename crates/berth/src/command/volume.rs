//! `volume create`, `ls` and `rm`.

use std::collections::BTreeMap;

use berth_spec::docker::volume::VolumeList;
use berth_spec::docker::{Volume, VolumeCreateBody};

use super::ps::{FORMAT_HELP, joined};
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::rows::{self, Field, Row};
use crate::format::size;
use crate::option::filter::{self, Filters};
use crate::option::key_value::{self, to_map};

/// The titles of what a volume's row has.
pub const FIELDS: [Field; 10] = [
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Availability", "AVAILABILITY"),
    ("Status", "STATUS"),
];

#[derive(Debug, clap::Args)]
pub struct Create {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", value_parser = key_value::label)]
    label: Vec<String>,
    /// Specify volume name
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Set driver specific options (default map[])
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    words: Vec<String>,
}

impl Verb for Create {
    const ARGUMENTS: &'static str = "[OPTIONS] [VOLUME]";
    const TAKES: Takes = Takes::AtMost(1);

    async fn run(self, cli: &Cli) -> Outcome {
        if self.name.is_some() && !self.words.is_empty() {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        let body = VolumeCreateBody {
            name: self
                .words
                .first()
                .cloned()
                .or(self.name)
                .unwrap_or_default(),
            driver: self.driver,
            driver_opts: to_map(&self.opt),
            labels: to_map(&self.label),
        };
        let client = cli.client().await?;
        let made: Volume = client
            .post("/volumes/create")
            .body_json(&body)?
            .json()
            .await?;
        println!("{}", made.name);
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for List {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let list: VolumeList = client
            .get("/volumes")
            .query("filters", Filters::new(&self.filter)?.to_query())
            .json()
            .await?;
        let mut volumes = list.volumes;
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let configured = cli.config.format("volumesFormat").filter(|_| !self.quiet);
        let template = match self.format.as_deref().or(configured).unwrap_or("table") {
            "table" if self.quiet => "{{.Name}}",
            "table" => "table {{.Driver}}\t{{.Name}}",
            "raw" if self.quiet => "name: {{.Name}}",
            "raw" => "name: {{.Name}}\ndriver: {{.Driver}}\n",
            other => other,
        };
        rows::print(template, &FIELDS, volumes.iter().map(row).collect())
    }
}

/// A volume's row.
pub fn row(volume: &Volume) -> Row {
    let none = BTreeMap::new();
    let labels = volume.labels.as_ref().unwrap_or(&none);
    let usage = volume.usage_data.as_ref();
    let mut row = Row::default();
    row.set("Name", volume.name.clone())
        .set("Driver", volume.driver.clone())
        .set("Scope", volume.scope.clone())
        .set("Mountpoint", volume.mountpoint.clone())
        .set("Labels", joined(labels))
        .set(
            "Links",
            usage.map_or("N/A".to_owned(), |u| u.ref_count.to_string()),
        )
        .set(
            "Size",
            usage.map_or("N/A".to_owned(), |u| size::human(u.size as f64)),
        )
        .set("Group", "N/A")
        .set("Availability", "N/A")
        .set("Status", "N/A")
        .set_labels(labels);
    row
}

#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    words: Vec<String>,
}

impl Verb for Remove {
    const ARGUMENTS: &'static str = "[OPTIONS] VOLUME [VOLUME...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let mut failed = Vec::new();
        for name in &self.words {
            let request = client.delete(format!("/volumes/{name}"));
            match request.flag("force", self.force).done().await {
                Ok(()) => println!("{name}"),
                Err(e) => failed.push(e.to_string()),
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failed.join("\n")))
        }
    }
}
