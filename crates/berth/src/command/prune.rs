//! `prune`, of everything or of one kind.

use berth_client::Client;
use berth_spec::docker::build::BuildPruned;
use berth_spec::docker::container::ContainersPruned;
use berth_spec::docker::image::ImagesPruned;
use berth_spec::docker::network::NetworksPruned;
use berth_spec::docker::volume::VolumesPruned;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::size;
use crate::option::filter::{self, Filters};
use crate::option::value;
use crate::terminal::prompt;

/// Bytes that became free, and what is told of it.
type Pruned = (u64, String);

macro_rules! prune_verbs {
    ($($name:ident $example:literal { $($field:tt)* })*) => {$(
        #[derive(Debug, clap::Args)]
        pub struct $name {
            #[arg(long, value_name = "filter", value_parser = filter::check, help = concat!("Provide filter values (e.g. \"", $example, "\")"))]
            filter: Vec<String>,
            /// Do not prompt for confirmation
            #[arg(short, long)]
            force: bool,
            $($field)*
            words: Vec<String>,
        }
    )*};
}

prune_verbs! {
    Containers "until=<timestamp>" {}
    Networks "until=<timestamp>" {}
    Images "until=<timestamp>" {
        /// Remove all unused images, not just dangling ones
        #[arg(short, long)]
        all: bool,
    }
    Volumes "label=<label>" {
        /// Remove all unused volumes, not just anonymous ones
        #[arg(short, long)]
        all: bool,
    }
    Builder "until=24h" {
        /// Remove all unused build cache, not just dangling ones
        #[arg(short, long)]
        all: bool,
        /// Amount of disk space to keep for cache
        #[arg(long, value_name = "bytes", value_parser = value::memory)]
        keep_storage: Option<i64>,
    }
    System "label=<key>=<value>" {
        /// Remove all unused images not just dangling ones
        #[arg(short, long)]
        all: bool,
        /// Prune anonymous volumes
        #[arg(long)]
        volumes: bool,
    }
}

fn confirm(force: bool, question: &str, what: &str) -> Outcome {
    if force || prompt::confirm(question)? {
        return Ok(());
    }
    // Said no: nothing more to say, and not a success.
    Err(Failure::new(format!("{what} prune has been cancelled")))
}

fn report((bytes, text): &Pruned, with_space: bool) {
    if !text.is_empty() {
        println!("{text}");
    }
    if with_space {
        println!("Total reclaimed space: {}", size::human(*bytes as f64));
    }
}

fn listed<'a>(title: &str, lines: impl IntoIterator<Item = &'a String>) -> String {
    let lines: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("{title}\n{lines}")
    }
}

async fn containers(client: &Client, filters: &Filters) -> Outcome<Pruned> {
    let pruned: ContainersPruned = client
        .post("/containers/prune")
        .query("filters", filters.to_query())
        .json()
        .await?;
    let text = listed(
        "Deleted Containers:",
        pruned.containers_deleted.iter().flatten(),
    );
    Ok((pruned.space_reclaimed, text))
}

async fn networks(client: &Client, filters: &Filters) -> Outcome<Pruned> {
    let pruned: NetworksPruned = client
        .post("/networks/prune")
        .query("filters", filters.to_query())
        .json()
        .await?;
    Ok((
        0,
        listed(
            "Deleted Networks:",
            pruned.networks_deleted.iter().flatten(),
        ),
    ))
}

async fn volumes(client: &Client, filters: &Filters, all: bool) -> Outcome<Pruned> {
    let mut filters = filters.clone();
    if all {
        filters.add("all", "true");
    }
    let pruned: VolumesPruned = client
        .post("/volumes/prune")
        .query("filters", filters.to_query())
        .json()
        .await?;
    let text = listed("Deleted Volumes:", pruned.volumes_deleted.iter().flatten());
    Ok((pruned.space_reclaimed, text))
}

async fn images(client: &Client, filters: &Filters, all: bool) -> Outcome<Pruned> {
    let mut filters = filters.clone();
    filters.add("dangling", if all { "false" } else { "true" });
    let pruned: ImagesPruned = client
        .post("/images/prune")
        .query("filters", filters.to_query())
        .json()
        .await?;
    let lines: Vec<_> = pruned
        .images_deleted
        .iter()
        .flatten()
        .map(|one| match one.untagged.as_str() {
            "" => format!("deleted: {}", one.deleted),
            name => format!("untagged: {name}"),
        })
        .collect();
    Ok((pruned.space_reclaimed, listed("Deleted Images:", &lines)))
}

async fn builder(
    client: &Client,
    filters: &Filters,
    all: bool,
    keep: Option<i64>,
) -> Outcome<Pruned> {
    let pruned: BuildPruned = client
        .post("/build/prune")
        .flag("all", all)
        .query(
            "keep-storage",
            keep.map(|k| k.to_string()).unwrap_or_default(),
        )
        .query("filters", filters.to_query())
        .json()
        .await?;
    let text = listed(
        "Deleted build cache objects:",
        pruned.caches_deleted.iter().flatten(),
    );
    Ok((pruned.space_reclaimed, text))
}

impl Verb for Containers {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        confirm(
            self.force,
            "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?",
            "container",
        )?;
        let filters = Filters::new(&self.filter)?;
        report(&containers(cli.client().await?, &filters).await?, true);
        Ok(())
    }
}

impl Verb for Networks {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        confirm(
            self.force,
            "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?",
            "network",
        )?;
        let filters = Filters::new(&self.filter)?;
        report(&networks(cli.client().await?, &filters).await?, false);
        Ok(())
    }
}

impl Verb for Volumes {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let filters = Filters::new(&self.filter)?;
        if self.all && filters.has("all") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --all and --filter all=1",
            ));
        }
        let what = if self.all {
            "all local"
        } else {
            "anonymous local"
        };
        confirm(
            self.force,
            &format!(
                "WARNING! This will remove {what} volumes not used by at least one container.\nAre you sure you want to continue?"
            ),
            "volume",
        )?;
        report(
            &volumes(cli.client().await?, &filters, self.all).await?,
            true,
        );
        Ok(())
    }
}

impl Verb for Images {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let what = if self.all {
            "images without at least one container associated to them"
        } else {
            "dangling images"
        };
        confirm(
            self.force,
            &format!("WARNING! This will remove all {what}.\nAre you sure you want to continue?"),
            "image",
        )?;
        let filters = Filters::new(&self.filter)?;
        report(
            &images(cli.client().await?, &filters, self.all).await?,
            true,
        );
        Ok(())
    }
}

impl Verb for Builder {
    const ARGUMENTS: &'static str = "";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let what = if self.all {
            "build cache"
        } else {
            "dangling build cache"
        };
        confirm(
            self.force,
            &format!("WARNING! This will remove all {what}. Are you sure you want to continue?"),
            "builder",
        )?;
        let filters = Filters::new(&self.filter)?;
        let client = cli.client().await?;
        let (bytes, text) = builder(client, &filters, self.all, self.keep_storage).await?;
        if !text.is_empty() {
            println!("{text}");
        }
        println!("Total reclaimed space: {}", size::human(bytes as f64));
        Ok(())
    }
}

impl Verb for System {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let filters = Filters::new(&self.filter)?;
        if self.volumes && filters.has("until") {
            return Err(Failure::new(
                "ERROR: The \"until\" filter is not supported with \"--volumes\"",
            ));
        }
        confirm(self.force, &self.question(), "system")?;
        let client = cli.client().await?;
        let mut parts = vec![
            containers(client, &filters).await?,
            networks(client, &filters).await?,
        ];
        if self.volumes {
            parts.push(volumes(client, &filters, false).await?);
        }
        parts.push(images(client, &filters, self.all).await?);
        parts.push(builder(client, &filters, self.all, None).await?);
        parts.iter().for_each(|part| report(part, false));
        let bytes: u64 = parts.iter().map(|(bytes, _)| bytes).sum();
        println!("Total reclaimed space: {}", size::human(bytes as f64));
        Ok(())
    }
}

impl System {
    fn question(&self) -> String {
        let mut what = vec![
            "all stopped containers",
            "all networks not used by at least one container",
        ];
        if self.volumes {
            what.push("all anonymous volumes not used by at least one container");
        }
        what.extend(if self.all {
            [
                "all images without at least one container associated to them",
                "all build cache",
            ]
        } else {
            ["all dangling images", "unused build cache"]
        });
        let list: String = what.iter().map(|what| format!("\n  - {what}")).collect();
        let mut filters = self.filter.clone();
        filters.sort();
        let filtered: String = if filters.is_empty() {
            String::new()
        } else {
            let list: String = filters.iter().map(|f| format!("\n  - {f}")).collect();
            format!("\n  Items to be pruned will be filtered with:{list}\n")
        };
        format!("WARNING! This will remove:{list}\n{filtered}\nAre you sure you want to continue?")
    }
}
