//! `system df`.

use berth_spec::docker::ContainerSummary;
use berth_spec::docker::system::{BuildCacheRecord, DiskUsage as Usage};

use super::ps::FORMAT_HELP;
use super::{Takes, Verb, images, ps, volume};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::format::rows::{self, Field, Format, Row};
use crate::format::{size, time, write_stdout};
use crate::reference;

const FIELDS: [Field; 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const CACHE_FIELDS: [Field; 7] = [
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

#[derive(Debug, clap::Args)]
pub struct DiskUsage {
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
    words: Vec<String>,
}

impl Verb for DiskUsage {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let usage: Usage = client.get("/system/df").json().await?;
        if self.verbose && self.format.is_none() {
            return verbose(&usage);
        }
        let template = match self.format.as_deref().unwrap_or("table") {
            "table" => "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
            "raw" => {
                "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
            }
            other => other,
        };
        rows::print(template, &FIELDS, summary(&usage))
    }
}

fn row(kind: &str, total: usize, active: usize, bytes: i64, free: i64, percent: bool) -> Row {
    let free_text = size::human(free as f64);
    let mut row = Row::default();
    row.set("Type", kind)
        .set("TotalCount", total.to_string())
        .set("Active", active.to_string())
        .set("Size", size::human(bytes as f64))
        .set(
            "Reclaimable",
            if percent && bytes > 0 {
                format!("{free_text} ({}%)", free.saturating_mul(100) / bytes)
            } else {
                free_text
            },
        );
    row
}

fn is_active(container: &ContainerSummary) -> bool {
    ["running", "paused", "restarting"].contains(&container.state.as_str())
}

fn summary(usage: &Usage) -> Vec<Row> {
    let used: i64 = usage
        .images
        .iter()
        .filter(|image| image.containers != 0 && image.size >= 0 && image.shared_size >= 0)
        .map(|image| image.size - image.shared_size)
        .sum();
    let active_images = usage.images.iter().filter(|image| image.containers > 0);
    let writable = |active: bool| -> i64 {
        let of = usage.containers.iter().filter(|c| active || !is_active(c));
        of.map(|c| c.size_rw.unwrap_or(0)).sum()
    };
    let volumes: Vec<_> = usage
        .volumes
        .iter()
        .filter_map(|volume| volume.usage_data.as_ref())
        .collect();
    let held = |unused_only: bool| -> i64 {
        let of = volumes.iter().filter(|u| u.size >= 0);
        of.filter(|u| !unused_only || u.ref_count == 0)
            .map(|u| u.size)
            .sum()
    };
    let cache = cache_size(&usage.build_cache);
    let in_use: i64 = usage
        .build_cache
        .iter()
        .filter(|record| record.in_use && !record.shared)
        .map(|record| record.size)
        .sum();
    vec![
        row(
            "Images",
            usage.images.len(),
            active_images.count(),
            usage.layers_size,
            usage.layers_size - used,
            true,
        ),
        row(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(|c| is_active(c)).count(),
            writable(true),
            writable(false),
            true,
        ),
        row(
            "Local Volumes",
            usage.volumes.len(),
            volumes.iter().filter(|u| u.ref_count > 0).count(),
            held(false),
            held(true),
            true,
        ),
        row(
            "Build Cache",
            usage.build_cache.len(),
            usage.build_cache.iter().filter(|r| r.in_use).count(),
            cache,
            cache - in_use,
            false,
        ),
    ]
}

fn cache_size(records: &[BuildCacheRecord]) -> i64 {
    records.iter().filter(|r| !r.shared).map(|r| r.size).sum()
}

fn verbose(usage: &Usage) -> Outcome {
    let mut text = "Images space usage:\n\n".to_owned();
    let rows = usage.images.iter().filter_map(|image| {
        images::rows_of(image, false, false, true)
            .into_iter()
            .next()
    });
    text.push_str(
        &Format::new("table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}")
            .render(&images::FIELDS, rows.collect())?,
    );
    text.push_str("\nContainers space usage:\n\n");
    let rows = usage.containers.iter().map(|container| {
        let mut container = container.clone();
        container.size_root_fs = None;
        ps::row(&container, true)
    });
    text.push_str(
        &Format::new("table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}")
            .render(&ps::FIELDS, rows.collect())?,
    );
    text.push_str("\nLocal Volumes space usage:\n\n");
    text.push_str(
        &Format::new("table {{.Name}}\t{{.Links}}\t{{.Size}}").render(
            &volume::FIELDS,
            usage.volumes.iter().map(volume::row).collect(),
        )?,
    );
    text.push_str(&format!(
        "\nBuild cache usage: {}\n\n",
        size::human(cache_size(&usage.build_cache) as f64)
    ));
    text.push_str(
        &Format::new("table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}")
            .render(&CACHE_FIELDS, usage.build_cache.iter().map(cache_row).collect())?,
    );
    write_stdout(text.as_bytes())
}

fn cache_row(record: &BuildCacheRecord) -> Row {
    let used = record.last_used_at.as_deref();
    let mut id = reference::short_id(&record.id).to_owned();
    if record.in_use {
        id.push('*');
    }
    let mut row = Row::default();
    row.set("ID", id)
        .set("CacheType", record.kind.clone())
        .set("Size", size::human(record.size as f64))
        .set("CreatedSince", time::ago(time::epoch(&record.created_at)))
        .set(
            "LastUsedSince",
            used.map_or(String::new(), |at| time::ago(time::epoch(at))),
        )
        .set("UsageCount", record.usage_count.to_string())
        .set("Shared", record.shared.to_string());
    row
}
