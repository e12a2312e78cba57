//! list: a line for each container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_spec::docker::ContainerSummary;
use berth_spec::docker::container::{PortSummary, SummaryHostConfig, SummaryNetworkSettings};
use jiff::Timestamp;

use super::inspect::{command, mounts, networks, published, sizes};
use super::plan::exposed;
use super::record::{Container, Record};
use super::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Error, Filters, Result, time};

/// Which containers [`list`] shows.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those that do not run, too.
    pub all: bool,
    /// The newest so many (and those that do not run, too); 0 for all.
    pub limit: usize,
    /// With sizes.
    pub size: bool,
    pub filters: Filters,
}

const FILTERS: [&str; 17] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "until",
];

/// Lists containers, the newest first.
pub async fn list(engine: &Engine, options: ListOptions) -> Result<Vec<ContainerSummary>> {
    let filters = &options.filters;
    filters.allow(&FILTERS)?;
    let chosen = Chosen::of(engine, filters).await?;
    let all = options.all || options.limit > 0 || filters.has("status") || filters.has("exited");
    // Records are looked at where they are: many, and large.
    let mut found: Vec<(Timestamp, Arc<Container>)> = Vec::new();
    for container in engine.0.containers.all() {
        let created = container.read(|r| {
            let wanted = (all || r.life.status.running()) && chosen.take(engine, r);
            wanted.then_some(r.created)
        });
        found.extend(created.map(|at| (at, container)));
    }
    found.sort_by(|(a, one), (b, two)| b.cmp(a).then(one.id.cmp(&two.id)));
    if options.limit > 0 {
        found.truncate(options.limit);
    }
    let names = found
        .iter()
        .map(|(_, c)| c.read(|r| r.config.image.clone()));
    let images = ImageNames::look_up(engine, names.collect()).await?;
    let mut lines = Vec::with_capacity(found.len());
    for (_, container) in &found {
        let mut line = container.read(|r| summary(engine, r, &images));
        if options.size {
            let (rw, root) = sizes(engine, &container.snapshot()).await?;
            (line.size_rw, line.size_root_fs) = (Some(rw), Some(root));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// What names of images stand for now.
struct ImageNames(BTreeMap<String, String>);

impl ImageNames {
    async fn look_up(engine: &Engine, names: BTreeSet<String>) -> Result<Self> {
        let store = engine.0.store.clone();
        blocking(move || {
            let resolve = |name: String| {
                let image = store.images().resolve(&name).ok()?;
                Some((name, image.id.to_string()))
            };
            Ok::<_, Error>(Self(names.into_iter().filter_map(resolve).collect()))
        })
        .await
    }

    /// The name a container was made from, as long as that still names its image; else the image's ID.
    fn of(&self, record: &Record) -> String {
        match self.0.get(&record.config.image) {
            Some(id) if *id == record.image => record.config.image.clone(),
            _ => record.image.clone(),
        }
    }
}

/// The filters, with what they name looked up.
struct Chosen<'a> {
    filters: &'a Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    exited: BTreeSet<i64>,
    /// IDs of images; none where no ancestor is asked for.
    ancestors: Option<BTreeSet<String>>,
}

impl<'a> Chosen<'a> {
    async fn of(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        let created = |name: &str| -> Result<Option<Timestamp>> {
            let mut found = None;
            for value in filters.get(name) {
                let container: Arc<Container> = engine.0.containers.find(value)?;
                found = Some(container.read(|r| r.created));
            }
            Ok(found)
        };
        for status in filters.get("status") {
            if ![
                "created",
                "running",
                "paused",
                "restarting",
                "removing",
                "exited",
                "dead",
            ]
            .contains(&status.as_str())
            {
                return Err(Error::invalid(format!("invalid filter 'status={status}'")));
            }
        }
        for health in filters.get("health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&health.as_str()) {
                return Err(Error::invalid(format!("invalid filter 'health={health}'")));
            }
        }
        let exited = filters
            .get("exited")
            .iter()
            .map(|v| {
                v.parse::<i64>()
                    .map_err(|_| Error::invalid(format!("invalid filter 'exited={v}'")))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            filters,
            before: created("before")?,
            since: created("since")?,
            exited,
            ancestors: ancestors(engine, filters).await?,
        })
    }

    fn take(&self, engine: &Engine, record: &Record) -> bool {
        let filters = self.filters;
        let life = &record.life;
        let named = !filters.has("name")
            || filters.get("name").iter().any(|pattern| {
                let pattern = pattern.trim_start_matches('/');
                matches_name(pattern, &record.name)
            });
        let none = BTreeMap::new();
        let labels = record.config.labels.as_ref().unwrap_or(&none);
        let id = !filters.has("id")
            || filters
                .get("id")
                .iter()
                .any(|p| record.id.starts_with(p.as_str()));
        named
            && id
            && filters.exact("status", life.status.as_str())
            && (self.exited.is_empty()
                || (life.status == Status::Exited && self.exited.contains(&life.exit_code)))
            && filters.exact("health", health(record))
            && filters.labels(labels)
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
            && self
                .ancestors
                .as_ref()
                .is_none_or(|a| a.contains(&record.image))
            && self.network(engine, record)
            && self.volume(record)
            && self.ports(record)
            && filters.truth("is-task").ok().flatten() != Some(true)
    }

    fn network(&self, engine: &Engine, record: &Record) -> bool {
        let wanted = self.filters.get("network");
        wanted.is_empty()
            || wanted.iter().any(|wanted| {
                record.networks.keys().any(|name| {
                    name == wanted
                        || engine
                            .0
                            .networks
                            .get(name)
                            .is_ok_and(|n| n.id.starts_with(wanted.as_str()))
                })
            })
    }

    fn volume(&self, record: &Record) -> bool {
        let wanted = self.filters.get("volume");
        wanted.is_empty()
            || wanted.iter().any(|wanted| {
                record
                    .mounts
                    .iter()
                    .any(|m| m.name == *wanted || m.target == *wanted || m.source == *wanted)
            })
    }

    fn ports(&self, record: &Record) -> bool {
        let matches = |wanted: &String, port: u16, protocol: &str| {
            let (range, asked) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let inside = low.parse::<u16>().is_ok_and(|l| l <= port)
                && high.parse::<u16>().is_ok_and(|h| port <= h);
            inside && asked == protocol
        };
        let published = published(record.sandbox.as_ref());
        let publish = self.filters.get("publish");
        let expose = self.filters.get("expose");
        let open = exposed(&record.config).unwrap_or_default();
        (publish.is_empty()
            || publish.iter().any(|w| {
                published
                    .iter()
                    .any(|p| matches(w, p.host_port, &p.protocol.to_string()))
            }))
            && (expose.is_empty()
                || expose.iter().any(|w| {
                    open.iter()
                        .any(|(port, protocol)| matches(w, *port, &protocol.to_string()))
                }))
    }
}

/// Docker takes a name's filter as a regular expression; what people write is a part of the name,
/// perhaps held to its ends by `^` and `$`.
fn matches_name(pattern: &str, name: &str) -> bool {
    let (from_start, pattern) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest.trim_start_matches('/')),
        None => (false, pattern),
    };
    let (to_end, pattern) = match pattern.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    match (from_start, to_end) {
        (true, true) => name == pattern,
        (true, false) => name.starts_with(pattern),
        (false, true) => name.ends_with(pattern),
        (false, false) => name.contains(pattern),
    }
}

async fn ancestors(engine: &Engine, filters: &Filters) -> Result<Option<BTreeSet<String>>> {
    if !filters.has("ancestor") {
        return Ok(None);
    }
    let (images, names) = (engine.0.store.clone(), filters.get("ancestor").to_vec());
    blocking(move || {
        let mut found = BTreeSet::new();
        let all = images.images().list()?;
        for name in names {
            // An unknown image is nobody's ancestor.
            let Ok(image) = images.images().resolve(&name) else {
                continue;
            };
            // Images that stand on it have its layers below theirs.
            for other in &all {
                if other.layers().starts_with(image.layers())
                    && (other.id == image.id || other.layers().len() > image.layers().len())
                {
                    found.insert(other.id.to_string());
                }
            }
        }
        Ok::<_, Error>(Some(found))
    })
    .await
}

fn health(record: &Record) -> &str {
    match &record.health {
        Some(health) if !health.status.is_empty() => &health.status,
        _ => "none",
    }
}

/// The line of a container.
fn summary(engine: &Engine, record: &Record, images: &ImageNames) -> ContainerSummary {
    ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: images.of(record),
        image_id: record.image.clone(),
        command: command(record),
        created: record.created.as_second(),
        ports: ports(record),
        labels: record.config.labels.clone().unwrap_or_default(),
        state: record.life.status.as_str().to_owned(),
        status: status_text(record),
        host_config: SummaryHostConfig {
            network_mode: record.host.network_mode.clone(),
            annotations: record.host.annotations.clone().unwrap_or_default(),
        },
        network_settings: SummaryNetworkSettings {
            networks: networks(engine, record),
        },
        mounts: mounts(engine, &record.mounts),
        ..ContainerSummary::default()
    }
}

fn ports(record: &Record) -> Vec<PortSummary> {
    if !record.life.status.alive() {
        return Vec::new();
    }
    let published = published(record.sandbox.as_ref());
    let mut ports: Vec<PortSummary> = published
        .iter()
        .map(|p| PortSummary {
            ip: p.host_ip.to_string(),
            private_port: p.container_port,
            public_port: p.host_port,
            kind: p.protocol.to_string(),
        })
        .collect();
    for (port, protocol) in exposed(&record.config).unwrap_or_default() {
        if !published
            .iter()
            .any(|p| (p.container_port, p.protocol) == (port, protocol))
        {
            ports.push(PortSummary {
                private_port: port,
                kind: protocol.to_string(),
                ..PortSummary::default()
            });
        }
    }
    ports
}

/// `Up 3 minutes (healthy)`, `Exited (0) 2 seconds ago`.
fn status_text(record: &Record) -> String {
    let life = &record.life;
    let since = |from: Option<Timestamp>| {
        let seconds = from.map_or(0, |t| Timestamp::now().as_second() - t.as_second());
        time::ago(seconds)
    };
    match life.status {
        Status::Created => "Created".to_owned(),
        Status::Running => match health(record) {
            "none" => format!("Up {}", since(life.started)),
            "starting" => format!("Up {} (health: starting)", since(life.started)),
            health => format!("Up {} ({health})", since(life.started)),
        },
        Status::Paused => format!("Up {} (Paused)", since(life.started)),
        Status::Restarting => {
            format!(
                "Restarting ({}) {} ago",
                life.exit_code,
                since(life.finished)
            )
        }
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Exited if life.cause.is_empty() => {
            format!("Exited ({}) {} ago", life.exit_code, since(life.finished))
        }
        // What programs look for comes first.
        Status::Exited => format!(
            "Exited ({}) {} ago: {}",
            life.exit_code,
            since(life.finished),
            life.cause
        ),
        Status::Dead => "Dead".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched() {
        for (pattern, name, expected) in [
            ("web", "my-web-1", true),
            ("^web", "my-web", false),
            ("^/web$", "web", true),
            ("web$", "my-web", true),
            ("^web$", "web-1", false),
        ] {
            assert_eq!(matches_name(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn status_texts() {
        let mut record = Record::default();
        assert_eq!(status_text(&record), "Created");
        record.life.status = Status::Exited;
        record.life.exit_code = 3;
        record.life.finished = Some(Timestamp::now());
        assert!(status_text(&record).starts_with("Exited (3) "));
    }
}
