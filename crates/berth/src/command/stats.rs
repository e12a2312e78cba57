//! `stats`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_client::Client;
use berth_spec::docker::stats::Stats as Sample;
use berth_spec::docker::{ContainerSummary, Event};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::ps::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::rows::{Field, Format, Row};
use crate::format::{size, write_stdout};
use crate::option::filter::Filters;
use crate::reference;

const FIELDS: [Field; 9] = [
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
/// How often the screen is drawn.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    words: Vec<String>,
}

impl Verb for Stats {
    const ARGUMENTS: &'static str = "[OPTIONS] [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(0);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let configured = cli.config.format("statsFormat");
        let format = match self.format.as_deref().or(configured).unwrap_or("table") {
            "table" | "" => TABLE,
            other => other,
        };
        let format = Format::new(format);
        if self.no_stream {
            let samples = self.once(client).await?;
            let rows = samples
                .iter()
                .map(|(name, s)| self.row(name, s.as_ref()))
                .collect();
            return write_stdout(format.render(&FIELDS, rows)?.as_bytes());
        }
        self.follow(client, &format).await
    }
}

impl Stats {
    async fn names(&self, client: &Client) -> Outcome<Vec<String>> {
        if !self.words.is_empty() {
            return Ok(self.words.clone());
        }
        let containers: Vec<ContainerSummary> = client
            .get("/containers/json")
            .flag("all", self.all)
            .json()
            .await?;
        let short = |c: &ContainerSummary| reference::short_id(&c.id).to_owned();
        Ok(containers.iter().map(short).collect())
    }

    /// One sample of each; containers that went meanwhile have none.
    async fn once(&self, client: &Client) -> Outcome<Vec<(String, Option<Sample>)>> {
        let names = self.names(client).await?;
        let all = join_all(names.iter().map(|name| sample(client, name))).await;
        let failed: Vec<_> = all.iter().filter_map(|r| r.as_ref().err()).collect();
        if !self.words.is_empty() && !failed.is_empty() {
            let texts: Vec<_> = failed.iter().map(ToString::to_string).collect();
            return Err(Failure::new(texts.join("\n")));
        }
        Ok(names
            .into_iter()
            .zip(all.into_iter().map(Result::ok))
            .collect())
    }

    async fn follow(&self, client: &Client, format: &Format) -> Outcome {
        let watched = Watched::default();
        for name in self.names(client).await? {
            watched.add(client, &name);
        }
        let _events = self.words.is_empty().then(|| {
            let (client, watched) = (client.clone(), watched.clone());
            Owned(tokio::spawn(
                async move { watched.follow_events(&client).await },
            ))
        });
        if !self.words.is_empty() {
            // A name that does not exist is told before the screen is cleared.
            self.once(client).await?;
        }
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let rows = watched
                .samples()
                .iter()
                .map(|(name, sample)| self.row(name, sample.as_ref()))
                .collect();
            let text = format.render(&FIELDS, rows)?;
            // From the top left; what was longer before is cleared line by line.
            let mut screen = "\x1b[H".to_owned();
            for line in text.split('\n') {
                screen.push_str(&format!("{line} \x1b[K\n"));
            }
            screen.push_str("\x1b[J");
            write_stdout(screen.as_bytes())?;
            if !self.words.is_empty() && watched.is_empty() {
                return Ok(());
            }
        }
    }

    fn row(&self, name: &str, sample: Option<&Sample>) -> Row {
        let mut row = Row::default();
        row.set("Container", name);
        let Some(sample) = sample else {
            for field in [
                "CPUPerc", "MemPerc", "NetIO", "BlockIO", "PIDs", "Name", "ID",
            ] {
                row.set(field, "--");
            }
            row.set("ID", name).set("MemUsage", "-- / --");
            return row;
        };
        let id = if self.no_trunc {
            sample.id.as_str()
        } else {
            reference::short_id(&sample.id)
        };
        let memory = memory(sample);
        let limit = sample.memory_stats.limit as f64;
        let percent = if limit > 0.0 {
            memory / limit * 100.0
        } else {
            0.0
        };
        let (received, sent) = network(sample);
        let (read, written) = blocks(sample);
        let pair = |a: f64, b: f64| format!("{} / {}", size::short(a), size::short(b));
        row.set("Name", sample.name.trim_start_matches('/'))
            .set("ID", id)
            .set("CPUPerc", format!("{:.2}%", processor(sample)))
            .set(
                "MemUsage",
                format!("{} / {}", size::binary(memory), size::binary(limit)),
            )
            .set("MemPerc", format!("{percent:.2}%"))
            .set("NetIO", pair(received, sent))
            .set("BlockIO", pair(read, written))
            .set("PIDs", sample.pids_stats.current.unwrap_or(0).to_string());
        row
    }
}

/// A task that ends with this value.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The containers on the screen, each with a task that reads its samples.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Containers>>);

/// By name: the newest sample, and the task that reads them.
type Containers = BTreeMap<String, (Option<Sample>, Owned)>;

impl Watched {
    fn with<T>(&self, f: impl FnOnce(&mut Containers) -> T) -> T {
        // The map is whole at every moment: each change is one call.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, client: &Client, name: &str) {
        let (watched, client, key) = (self.clone(), client.clone(), name.to_owned());
        let task = Owned(tokio::spawn(async move {
            watched.read(&client, &key).await;
            watched.remove(&key);
        }));
        self.with(|map| map.insert(name.to_owned(), (None, task)));
    }

    fn remove(&self, name: &str) {
        let removed = self.with(|map| map.remove(name));
        drop(removed);
    }

    fn samples(&self) -> Vec<(String, Option<Sample>)> {
        self.with(|map| {
            map.iter()
                .map(|(k, (s, _))| (k.clone(), s.clone()))
                .collect()
        })
    }

    fn is_empty(&self) -> bool {
        self.with(|map| map.is_empty())
    }

    async fn read(&self, client: &Client, name: &str) {
        let request = client
            .get(format!("/containers/{name}/stats"))
            .flag("stream", true);
        let Ok(mut lines) = request.lines::<Sample>().await else {
            return;
        };
        while let Ok(Some(sample)) = lines.next().await {
            self.with(|map| {
                if let Some(entry) = map.get_mut(name) {
                    entry.0 = Some(sample);
                }
            });
        }
    }

    async fn follow_events(&self, client: &Client) {
        let mut filters = Filters::default();
        filters.add("type", "container");
        let request = client.get("/events").query("filters", filters.to_query());
        let Ok(mut events) = request.lines::<Event>().await else {
            return;
        };
        while let Ok(Some(event)) = events.next().await {
            let name = reference::short_id(&event.actor.id);
            match event.action.as_str() {
                "start" => self.add(client, name),
                "die" => self.remove(name),
                _ => {}
            }
        }
    }
}

async fn sample(client: &Client, name: &str) -> Result<Sample, berth_client::Error> {
    client
        .get(format!("/containers/{name}/stats"))
        .query("stream", "0")
        .json()
        .await
}

/// Percent of one processor.
fn processor(sample: &Sample) -> f64 {
    let (now, before) = (&sample.cpu_stats, &sample.precpu_stats);
    let own = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let all = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let count = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        count => f64::from(count),
    };
    if own > 0.0 && all > 0.0 {
        own / all * count * 100.0
    } else {
        0.0
    }
}

/// Memory in use without the page cache that can go.
fn memory(sample: &Sample) -> f64 {
    let memory = &sample.memory_stats;
    let stats = &memory.stats;
    let cache = stats
        .get("total_inactive_file")
        .or_else(|| stats.get("inactive_file"))
        .copied()
        .unwrap_or(0);
    let used = if cache < memory.usage {
        memory.usage - cache
    } else {
        memory.usage
    };
    used as f64
}

fn network(sample: &Sample) -> (f64, f64) {
    let interfaces = sample.networks.iter().flat_map(BTreeMap::values);
    interfaces.fold((0.0, 0.0), |(received, sent), i| {
        (received + i.rx_bytes as f64, sent + i.tx_bytes as f64)
    })
}

fn blocks(sample: &Sample) -> (f64, f64) {
    let entries = sample
        .blkio_stats
        .io_service_bytes_recursive
        .iter()
        .flatten();
    entries.fold((0.0, 0.0), |(read, written), entry| {
        let bytes = entry.value as f64;
        match entry.op.chars().next() {
            Some('r' | 'R') => (read + bytes, written),
            Some('w' | 'W') => (read, written + bytes),
            _ => (read, written),
        }
    })
}
