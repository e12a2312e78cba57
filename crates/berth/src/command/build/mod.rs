//! `build`: the classic API. The context goes up as an archive, progress comes down.

mod context;

use std::collections::BTreeMap;
use std::fs;
use std::io;

use berth_spec::docker::config::Ulimit;
use berth_spec::docker::{BuildQuery, JsonMessage};
use http::HeaderName;

use self::context::Source;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::environment;
use crate::failure::{Failure, Outcome};
use crate::format::write_stdout;
use crate::option::key_value::{self, to_map};
use crate::option::{limit, value};
use crate::progress::{self, Sink};
use crate::reference;

/// The header with credentials for every registry.
const REGISTRY_CONFIG: HeaderName = HeaderName::from_static("x-registry-config");

#[derive(Debug, clap::Args)]
pub struct Build {
    /// Add a custom host-to-IP mapping ("host:ip")
    #[arg(long, value_name = "list", value_parser = value::extra_host)]
    add_host: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "list", value_parser = build_arg)]
    build_arg: Vec<String>,
    /// Images to consider as cache sources
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    cache_from: Vec<String>,
    #[arg(long, value_name = "strings", hide = true)]
    cache_to: Vec<String>,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "string", default_value = "")]
    cgroup_parent: String,
    /// Compress the build context using gzip
    #[arg(long)]
    compress: bool,
    /// Limit the CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_period: Option<i64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = value::int)]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", value_parser = value::int)]
    cpu_shares: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", default_value = "")]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", default_value = "")]
    cpuset_mems: String,
    /// Skip image verification
    #[arg(long, default_value = "true")]
    disable_content_trust: bool,
    /// Name of the Dockerfile (Default is "PATH/Dockerfile")
    #[arg(short, long, value_name = "string", default_value = "")]
    file: String,
    /// Always remove intermediate containers
    #[arg(long)]
    force_rm: bool,
    /// Write the image ID to the file
    #[arg(long, value_name = "string", default_value = "")]
    iidfile: String,
    /// Container isolation technology
    #[arg(long, value_name = "string", default_value = "")]
    isolation: String,
    /// Set metadata for an image
    #[arg(long, value_name = "list", value_parser = key_value::label)]
    label: Vec<String>,
    #[arg(long, hide = true)]
    load: bool,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = value::memory)]
    memory: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = value::memory_swap)]
    memory_swap: Option<i64>,
    /// Set the networking mode for the RUN instructions during build
    #[arg(long, value_name = "string", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    #[arg(short, long, value_name = "strings", hide = true)]
    output: Vec<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(long, value_name = "string", hide = true)]
    progress: Option<String>,
    #[arg(long, hide = true)]
    push: bool,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pull: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Remove intermediate containers after a successful build
    #[arg(long, default_value = "true")]
    rm: bool,
    #[arg(long, value_name = "strings", hide = true)]
    secret: Vec<String>,
    /// Security options
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    security_opt: Vec<String>,
    /// Size of "/dev/shm"
    #[arg(long, value_name = "bytes", value_parser = value::memory)]
    shm_size: Option<i64>,
    /// Squash newly built layers into a single new layer
    #[arg(long, hide = true)]
    squash: bool,
    #[arg(long, value_name = "strings", hide = true)]
    ssh: Vec<String>,
    /// Name and optionally a tag in the "name:tag" format
    #[arg(short, long, value_name = "list", value_parser = tag)]
    tag: Vec<String>,
    /// Set the target build stage to build.
    #[arg(long, value_name = "string", default_value = "")]
    target: String,
    /// Ulimit options (default [])
    #[arg(long, value_name = "ulimit", value_parser = limit::ulimit)]
    ulimit: Vec<Ulimit>,
    words: Vec<String>,
}

fn tag(text: &str) -> Result<String, String> {
    reference::parse(text).map(|_| text.to_owned())
}

/// `NAME=value` or `NAME`.
fn build_arg(text: &str) -> Result<String, String> {
    if text.split('=').next() == Some("") {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(text.to_owned())
}

impl Verb for Build {
    const ARGUMENTS: &'static str = "[OPTIONS] PATH | URL | -";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        self.refuse_what_needs_a_session()?;
        if !self.iidfile.is_empty() {
            // A stale ID must not survive a failure.
            match fs::remove_file(&self.iidfile) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::new(format!("Removing image ID file: {e}")));
                }
                _ => {}
            }
        }
        let source = Source::new(&self.words[0], &self.file, self.quiet, self.compress)?;
        let mut query = self.query(cli);
        query.dockerfile = source.dockerfile;
        query.remote = source.remote;
        let client = cli.client().await?;
        let mut request = client.post("/build").body("application/x-tar", source.body);
        for (name, value) in query.to_pairs() {
            request = request.query(name, value);
        }
        let credentials = cli.config.all_credentials();
        let header = berth_spec::docker::auth::encode_header(&credentials);
        let mut lines = request.header(REGISTRY_CONFIG, header).lines().await?;
        let mut id = String::new();
        if self.quiet {
            id = quiet(&mut lines).await?;
            write_stdout(id.as_bytes())?;
        } else {
            progress::show(lines, Sink::Stdout, |aux| {
                if let Some(built) = aux.get("ID").and_then(|id| id.as_str()) {
                    id = built.to_owned();
                }
            })
            .await?;
        }
        self.write_id(id.trim())
    }
}

/// The output of a quiet build: the ID; everything else only where it fails.
async fn quiet(lines: &mut berth_client::Lines<JsonMessage>) -> Outcome<String> {
    let mut output = String::new();
    while let Some(message) = lines.next().await? {
        if let Some(failure) = progress::failure(&message) {
            eprint!("{output}");
            return Err(failure);
        }
        output.push_str(&message.stream);
    }
    Ok(output)
}

impl Build {
    fn refuse_what_needs_a_session(&self) -> Outcome {
        let refused = [
            ("--secret", !self.secret.is_empty()),
            ("--ssh", !self.ssh.is_empty()),
            ("--output", !self.output.is_empty()),
            ("--push", self.push),
            ("--cache-to", !self.cache_to.is_empty()),
        ];
        match refused.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::new(format!(
                "{flag} needs a BuildKit session, which this builder does not have"
            ))),
            None => Ok(()),
        }
    }

    fn query(&self, cli: &Cli) -> BuildQuery {
        let mut build_args: BTreeMap<String, Option<String>> = cli
            .config
            .proxies(&cli.endpoint.host.to_string())
            .into_iter()
            .map(|(name, value)| (name, Some(value)))
            .collect();
        for argument in &self.build_arg {
            match argument.split_once('=') {
                Some((name, value)) => build_args.insert(name.to_owned(), Some(value.to_owned())),
                // The user's own value; where there is none, the engine's.
                None => build_args.insert(argument.clone(), environment::lookup(argument)),
            };
        }
        BuildQuery {
            tags: self.tag.clone(),
            extra_hosts: self.add_host.clone(),
            quiet: self.quiet,
            no_cache: self.no_cache,
            cache_from: self.cache_from.clone(),
            pull: self.pull,
            rm: self.rm,
            force_rm: self.force_rm,
            memory: self.memory.unwrap_or(0),
            memory_swap: self.memory_swap.unwrap_or(0),
            cpu_shares: self.cpu_shares.unwrap_or(0),
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            cpu_period: self.cpu_period.unwrap_or(0),
            cpu_quota: self.cpu_quota.unwrap_or(0),
            cgroup_parent: self.cgroup_parent.clone(),
            build_args,
            shm_size: self.shm_size.unwrap_or(0),
            squash: self.squash,
            labels: to_map(&self.label),
            network_mode: self.network.clone(),
            platform: cli.platform(&self.platform),
            target: self.target.clone(),
            ulimits: self.ulimit.clone(),
            isolation: self.isolation.clone(),
            security_opt: self.security_opt.clone(),
            version: "1".to_owned(),
            ..BuildQuery::default()
        }
    }

    fn write_id(&self, id: &str) -> Outcome {
        if self.iidfile.is_empty() {
            return Ok(());
        }
        if id.is_empty() {
            return Err(Failure::new(format!(
                "Server did not provide an image ID. Cannot write {}",
                self.iidfile
            )));
        }
        Ok(fs::write(&self.iidfile, id)?)
    }
}
