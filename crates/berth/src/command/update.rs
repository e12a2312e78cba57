//! `update`.

use berth_client::Client;
use berth_spec::docker::Resources;
use berth_spec::docker::config::Mount;
use berth_spec::docker::container::{PublishChanges, UpdateBody, UpdateResponse};

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::option::volume::{self, Volume};
use crate::option::{limit, mount, port, value};

#[derive(Debug, clap::Args)]
pub struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", value_parser = value::uint16)]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", value_parser = value::int)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = value::nano_cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = value::memory)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = value::memory)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = value::memory_swap)]
    memory_swap: Option<i64>,
    /// Attach a mount, at once where the container runs (SRC:DST[:ro], or as --mount)
    #[arg(long, value_name = "list", value_parser = added)]
    mount_add: Vec<Added>,
    /// Take a mount away, at once where the container runs (DST)
    #[arg(long, value_name = "list")]
    mount_rm: Vec<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", value_parser = value::int)]
    pids_limit: Option<i64>,
    /// Publish a container's port to the host while it runs
    #[arg(long, value_name = "list")]
    publish_add: Vec<String>,
    /// Take a published port of the host back while the container runs ([ip:]port[/proto])
    #[arg(long, value_name = "list")]
    publish_rm: Vec<String>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    words: Vec<String>,
}

/// A mount to attach, in either notation.
#[derive(Debug, Clone)]
enum Added {
    Bind(String),
    Mount(Box<Mount>),
}

fn added(text: &str) -> Result<Added, String> {
    // A path may have such a sign in it, but does not begin with a key of --mount.
    let keys = [
        "type=",
        "source=",
        "src=",
        "target=",
        "dst=",
        "destination=",
    ];
    if keys.iter().any(|key| text.starts_with(key)) {
        return mount::parse(text).map(|mount| Added::Mount(Box::new(mount)));
    }
    match volume::parse(text)? {
        Volume::Bind(bind) => Ok(Added::Bind(bind)),
        // A volume without a name.
        Volume::Anonymous(target) => mount::parse(&format!("type=volume,target={target}"))
            .map(|mount| Added::Mount(Box::new(mount))),
    }
}

impl Verb for Update {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let body = UpdateBody {
            resources: self.resources()?,
            ports: PublishChanges {
                publish_add: port::parse(&self.publish_add, &[])?.published,
                publish_rm: (!self.publish_rm.is_empty()).then(|| self.publish_rm.clone()),
            },
        };
        if body == UpdateBody::default() {
            return Err(Failure::new(
                "you must provide one or more flags when using this command",
            ));
        }
        let client = cli.client().await?;
        let (mut warnings, mut failed) = (Vec::new(), Vec::new());
        for word in &self.words {
            match update(client, word, &body).await {
                Ok(answer) => {
                    if self.remounts() && answer.mounts.is_none() {
                        return Err(Failure::new(
                            "this engine cannot change the mounts of a container",
                        ));
                    }
                    println!("{word}");
                    warnings.extend(answer.warnings);
                }
                Err(e) => failed.push(e.to_string()),
            }
        }
        if !warnings.is_empty() {
            println!("{}", warnings.join("\n"));
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failed.join("\n")))
        }
    }
}

async fn update(
    client: &Client,
    name: &str,
    body: &UpdateBody,
) -> Result<UpdateResponse, berth_client::Error> {
    client
        .post(format!("/containers/{name}/update"))
        .body_json(body)?
        .json()
        .await
}

impl Update {
    fn remounts(&self) -> bool {
        !self.mount_add.is_empty() || !self.mount_rm.is_empty()
    }

    fn resources(&self) -> Result<Resources, String> {
        Ok(Resources {
            cpu_shares: self.cpu_shares.unwrap_or(0),
            memory: self.memory.unwrap_or(0),
            nano_cpus: self.cpus.unwrap_or(0),
            blkio_weight: self.blkio_weight.unwrap_or(0),
            cpu_period: self.cpu_period.unwrap_or(0),
            cpu_quota: self.cpu_quota.unwrap_or(0),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or(0),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or(0),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            memory_reservation: self.memory_reservation.unwrap_or(0),
            memory_swap: self.memory_swap.unwrap_or(0),
            pids_limit: self.pids_limit,
            mounts_add: some(self.mount_add.iter().filter_map(|added| match added {
                Added::Mount(mount) => Some((**mount).clone()),
                Added::Bind(_) => None,
            })),
            binds_add: some(self.mount_add.iter().filter_map(|added| match added {
                Added::Bind(bind) => Some(bind.clone()),
                Added::Mount(_) => None,
            })),
            mounts_remove: some(self.mount_rm.iter().cloned()),
            restart_policy: self
                .restart
                .as_deref()
                .map(limit::restart_policy)
                .transpose()?,
            ..Resources::default()
        })
    }
}

/// A list, if there is something in it.
fn some<T>(list: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let list: Vec<T> = list.collect();
    (!list.is_empty()).then_some(list)
}
