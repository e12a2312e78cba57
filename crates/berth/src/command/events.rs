//! `events`.

use std::fmt::Write;

use berth_spec::docker::Event;

use super::inspect::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::template::{self, Data};
use crate::format::tree::Tree;
use crate::format::{time, write_stdout};
use crate::option::filter::{self, Filters};

#[derive(Debug, clap::Args)]
pub struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string", default_value = "")]
    since: String,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string", default_value = "")]
    until: String,
    words: Vec<String>,
}

fn moment(text: &str) -> Outcome<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    Ok(time::moment(text)?)
}

impl Verb for Events {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let format = match self.format.as_deref() {
            None | Some("") => None,
            Some("json") => Some("{{json .}}"),
            Some(other) => Some(other),
        };
        if let Some(format) = format {
            template::parse(format, Data::default(), true)
                .map_err(|e| Failure::with_code(64, format!("Error parsing format: {e}")))?;
        }
        let client = cli.client().await?;
        let mut events = client
            .get("/events")
            .query("since", moment(&self.since)?)
            .query("until", moment(&self.until)?)
            .query("filters", Filters::new(&self.filter)?.to_query())
            .lines::<Tree>()
            .await?;
        while let Some(tree) = events.next().await? {
            let line = match format {
                Some(format) => {
                    let mut data = Data::with_go_names();
                    let value = data.value(&tree);
                    template::parse(format, data, true)?.execute(&value)?
                }
                None => pretty(&tree)?,
            };
            write_stdout(format!("{line}\n").as_bytes())?;
        }
        Ok(())
    }
}

fn pretty(tree: &Tree) -> Outcome<String> {
    let value = serde_json::to_value(tree).map_err(|e| Failure::new(e.to_string()))?;
    let event: Event = serde_json::from_value(value).map_err(|e| Failure::new(e.to_string()))?;
    let mut line = String::new();
    if event.time_nano != 0 {
        line.push_str(&time::rfc3339_nano(event.time_nano));
        line.push(' ');
    } else if event.time != 0 {
        line.push_str(&time::rfc3339_nano(
            event.time.saturating_mul(1_000_000_000),
        ));
        line.push(' ');
    }
    let actor = &event.actor;
    // Writing to a string does not fail.
    let _ = write!(line, "{} {} {}", event.kind, event.action, actor.id);
    if !actor.attributes.is_empty() {
        let pairs: Vec<_> = actor
            .attributes
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let _ = write!(line, " ({})", pairs.join(", "));
    }
    Ok(line)
}
