//! `ps`.

use std::collections::BTreeMap;

use berth_spec::docker::ContainerSummary;
use berth_spec::docker::container::PortSummary;
use gotmpl::Value;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::rows::{self, Field, Format, Row, ellipsis};
use crate::format::{quote, size, time};
use crate::option::filter::{self, Filters};
use crate::reference;

/// The titles of what a container's row has.
pub const FIELDS: [Field; 15] = [
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

const TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

/// Help for `--format` of lists.
pub const FORMAT_HELP: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

#[derive(Debug, clap::Args)]
pub struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", default_value = "-1", value_parser = crate::option::value::int)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    words: Vec<String>,
}

impl Verb for Ps {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        if self.quiet && self.format.is_some() {
            eprintln!(
                "WARNING: Ignoring custom format, because both --format and --quiet are set."
            );
        }
        let given = self.format.as_deref().or(cli.config.format("psFormat"));
        let given = given.unwrap_or("table");
        let sized = self.size || (!self.quiet && Format::new(given).names("Size"));
        let limit = match self.last {
            -1 if self.latest => 1,
            last => last,
        };
        let client = cli.client().await?;
        let containers: Vec<ContainerSummary> = client
            .get("/containers/json")
            .flag("all", self.all)
            .query(
                "limit",
                if limit > 0 {
                    limit.to_string()
                } else {
                    String::new()
                },
            )
            .flag("size", sized)
            .query("filters", Filters::new(&self.filter)?.to_query())
            .json()
            .await?;
        let rows = containers
            .iter()
            .map(|container| row(container, !self.no_trunc))
            .collect();
        rows::print(&self.template(given, sized), &FIELDS, rows)
    }
}

impl Ps {
    fn template(&self, given: &str, sized: bool) -> String {
        match given {
            _ if self.quiet && given != "raw" => "{{.ID}}".to_owned(),
            "raw" if self.quiet => "container_id: {{.ID}}".to_owned(),
            "table" | "" if sized => format!("{TABLE}\t{{{{.Size}}}}"),
            "table" | "" => TABLE.to_owned(),
            "raw" if sized => format!("{RAW}size: {{{{.Size}}}}\n"),
            "raw" => RAW.to_owned(),
            other => other.to_owned(),
        }
    }
}

/// A container's row.
pub fn row(container: &ContainerSummary, truncate: bool) -> Row {
    let mut row = Row::default();
    let cut = |text: &str, width| {
        if truncate {
            ellipsis(text, width)
        } else {
            text.to_owned()
        }
    };
    let mounts: Vec<_> = container
        .mounts
        .iter()
        .map(|m| {
            cut(
                if m.name.is_empty() {
                    &m.source
                } else {
                    &m.name
                },
                15,
            )
        })
        .collect();
    let local = container.mounts.iter().filter(|m| m.driver == "local");
    let networks: Vec<_> = container
        .network_settings
        .networks
        .keys()
        .cloned()
        .collect();
    let id = if truncate {
        reference::short_id(&container.id)
    } else {
        &container.id
    };
    row.set("ID", id)
        .set("Names", names(&container.names, truncate))
        .set("Image", image(container, truncate))
        .set("Command", quote::go(&cut(&container.command, 20)))
        .set("CreatedAt", time::local(container.created))
        .set("RunningFor", time::ago(container.created))
        .set("Ports", ports(&container.ports))
        .set("State", container.state.clone())
        .set("Status", container.status.clone())
        .set("Size", sizes(container))
        .set("Labels", joined(&container.labels))
        .set("Mounts", mounts.join(","))
        .set("LocalVolumes", local.count().to_string())
        .set("Networks", networks.join(","))
        .set_value("Platform", Value::Nil)
        .set_labels(&container.labels);
    row
}

/// `name=value,…`, sorted.
pub fn joined(labels: &BTreeMap<String, String>) -> String {
    let mut pairs: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.sort();
    pairs.join(",")
}

fn names(names: &[String], truncate: bool) -> String {
    let mut names: Vec<&str> = names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        .collect();
    // Links are names with a slash; the container's own has none.
    if truncate && let Some(own) = names.iter().copied().find(|name| !name.contains('/')) {
        names = vec![own];
    }
    names.join(",")
}

fn image(container: &ContainerSummary, truncate: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncate {
        return container.image.clone();
    }
    let short = reference::short_id(&container.image_id);
    if short == reference::short_id(&container.image) {
        return short.to_owned();
    }
    // A digest is too long for a table.
    match container.image.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => container.image.clone(),
    }
}

fn sizes(container: &ContainerSummary) -> String {
    let own = size::short(container.size_rw.unwrap_or(0) as f64);
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{own} (virtual {})", size::short(all as f64)),
        _ => own,
    }
}

/// Published and exposed ports, neighbours joined to ranges.
fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<_> = ports.iter().collect();
    sorted.sort_by_key(|p| (p.private_port, &p.ip, p.public_port, &p.kind));
    let mut groups: Vec<(String, u16, u16)> = Vec::new();
    let (mut shown, mut mappings) = (Vec::new(), Vec::new());
    for port in sorted {
        let private = port.private_port;
        if !port.ip.is_empty() && port.public_port != private {
            let host = host_port(&port.ip, &port.public_port.to_string());
            mappings.push(format!("{host}->{private}/{}", port.kind));
            continue;
        }
        let key = if port.ip.is_empty() {
            port.kind.clone()
        } else {
            format!("{}/{}", port.ip, port.kind)
        };
        match groups.iter_mut().find(|(k, _, _)| *k == key) {
            None => groups.push((key, private, private)),
            Some((_, _, last)) if private == last.saturating_add(1) => *last = private,
            Some((key, first, last)) => {
                shown.push(group(key, *first, *last));
                (*first, *last) = (private, private);
            }
        }
    }
    shown.extend(
        groups
            .iter()
            .map(|(key, first, last)| group(key, *first, *last)),
    );
    shown.extend(mappings);
    shown.join(", ")
}

fn group(key: &str, first: u16, last: u16) -> String {
    let range = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    match key.rsplit_once('/') {
        Some((ip, kind)) => format!("{}->{range}/{kind}", host_port(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

/// An address and port; an IPv6 address in brackets.
pub fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: u16) -> PortSummary {
        PortSummary {
            ip: ip.into(),
            private_port: private,
            public_port: public,
            kind: "tcp".into(),
        }
    }

    #[test]
    fn ports_are_joined_to_ranges() {
        for (given, text) in [
            (vec![port("", 80, 0)], "80/tcp"),
            (vec![port("0.0.0.0", 80, 8080)], "0.0.0.0:8080->80/tcp"),
            (vec![port("::", 80, 8080)], "[::]:8080->80/tcp"),
            (
                vec![
                    port("", 82, 0),
                    port("", 80, 0),
                    port("", 81, 0),
                    port("", 90, 0),
                ],
                "80-82/tcp, 90/tcp",
            ),
            (
                vec![port("1.1.1.1", 80, 80), port("1.1.1.1", 81, 81)],
                "1.1.1.1:80-81->80-81/tcp",
            ),
        ] {
            assert_eq!(ports(&given), text);
        }
    }
}
