//! `build`: the classic API. The context goes up as an archive, progress comes down.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use berth_client::{Body, Lines};
use berth_spec::docker::config::Ulimit;
use berth_spec::docker::{BuildQuery, JsonMessage};
use http::HeaderName;

use super::{Takes, Verb};
use crate::build_context::{self, Report, Source};
use crate::cli::Cli;
use crate::environment;
use crate::failure::{Failure, Outcome, why};
use crate::format::write_stdout;
use crate::option::key_value::{self, to_map};
use crate::option::{limit, value};
use crate::progress::{self, Sink};
use crate::{reference, terminal};

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
    allow: Vec<String>,
    #[arg(long, value_name = "strings", hide = true)]
    annotation: Vec<String>,
    #[arg(long, value_name = "strings", hide = true)]
    attest: Vec<String>,
    #[arg(long, value_name = "strings", hide = true)]
    build_context: Vec<String>,
    #[arg(long, value_name = "string", hide = true)]
    builder: Option<String>,
    #[arg(long, value_name = "strings", hide = true)]
    cache_to: Vec<String>,
    #[arg(long, hide = true)]
    check: bool,
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
    #[arg(long, value_name = "string", default_value = "", hide = true)]
    metadata_file: String,
    /// Set the networking mode for the RUN instructions during build
    #[arg(long, value_name = "string", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    #[arg(long, value_name = "strings", hide = true)]
    no_cache_filter: Vec<String>,
    #[arg(short, long, value_name = "strings", hide = true)]
    output: Vec<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(long, value_name = "string", hide = true)]
    progress: Option<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    provenance: Option<String>,
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
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    sbom: Option<String>,
    #[arg(long, value_name = "strings", hide = true)]
    secret: Vec<String>,
    /// Security options
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    security_opt: Vec<String>,
    /// Size of "/dev/shm"
    #[arg(long, value_name = "bytes", value_parser = value::memory)]
    shm_size: Option<i64>,
    /// Squash newly built layers into a single new layer
    #[arg(long)]
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
        self.refuse_what_needs_buildkit()?;
        self.remove_old_id()?;
        let context = build_context::prepare(&self.words[0], &self.file)?;
        let mut query = self.query(cli);
        query.dockerfile = context.dockerfile;
        let client = cli.client().await?;
        let (body, failed) = match context.source {
            Source::Archive(archive) => {
                let (body, failed) = build_context::stream(archive, self.compress, self.report());
                (body, Some(failed))
            }
            Source::Remote(address) => {
                query.remote = address;
                (Body::Empty, None)
            }
        };
        let mut request = client.post("/build").body("application/x-tar", body);
        for (name, value) in query.to_pairs() {
            request = request.query(name, value);
        }
        let credentials = cli.config.all_credentials();
        let header = berth_spec::docker::auth::encode_header(&credentials);
        let lines = request.header(REGISTRY_CONFIG, header).lines().await;
        let shown = match lines {
            Ok(lines) => self.show(lines).await,
            Err(e) => Err(e.into()),
        };
        // What broke the request off says more than that it was broken off.
        let id = shown.map_err(|e| match failed.and_then(|failed| failed.reason()) {
            Some(reason) => Failure::new(reason),
            None => e,
        })?;
        self.write_id(id.trim())
    }
}

/// The output of a quiet build: the ID; everything else only where it fails.
async fn quiet(mut lines: Lines<JsonMessage>) -> Outcome<String> {
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
    /// Refuses what only BuildKit does; what asks for nothing this builder does not do anyway
    /// is let pass.
    fn refuse_what_needs_buildkit(&self) -> Outcome {
        let off = |given: &Option<String>| given.as_deref().is_none_or(|text| text == "false");
        let to_the_engine = |output: &String| {
            ["docker", "image", "type=docker", "type=image"].contains(&output.as_str())
        };
        let refused = [
            ("--allow", !self.allow.is_empty()),
            ("--annotation", !self.annotation.is_empty()),
            ("--attest", !self.attest.is_empty()),
            ("--build-context", !self.build_context.is_empty()),
            ("--cache-to", !self.cache_to.is_empty()),
            ("--check", self.check),
            ("--metadata-file", !self.metadata_file.is_empty()),
            ("--no-cache-filter", !self.no_cache_filter.is_empty()),
            ("--output", !self.output.iter().all(to_the_engine)),
            ("--provenance", !off(&self.provenance)),
            ("--push", self.push),
            ("--sbom", !off(&self.sbom)),
            ("--secret", !self.secret.is_empty()),
            ("--ssh", !self.ssh.is_empty()),
        ];
        match refused.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::new(format!(
                "{flag} needs BuildKit, and this is the classic builder"
            ))),
            None => Ok(()),
        }
    }

    /// A stale ID must not survive a failure.
    fn remove_old_id(&self) -> Outcome {
        if self.iidfile.is_empty() {
            return Ok(());
        }
        match fs::remove_file(&self.iidfile) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Failure::new(format!(
                "removing image ID file: remove {}: {}",
                self.iidfile,
                why(&e)
            ))),
            _ => Ok(()),
        }
    }

    fn report(&self) -> Report {
        match terminal::stdout_is_terminal() {
            _ if self.quiet => Report::Nothing,
            true => Report::Live,
            false => Report::Last,
        }
    }

    /// Shows what the engine tells; the image's ID.
    async fn show(&self, lines: Lines<JsonMessage>) -> Outcome<String> {
        let mut id = String::new();
        if self.quiet {
            id = quiet(lines).await?;
            write_stdout(id.as_bytes())?;
        } else {
            progress::show(lines, Sink::Stdout, |aux| {
                if let Some(built) = aux.get("ID").and_then(|id| id.as_str()) {
                    id = built.to_owned();
                }
            })
            .await?;
        }
        Ok(id)
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
                "server did not provide an image ID. Cannot write {}",
                self.iidfile
            )));
        }
        Ok(fs::write(&self.iidfile, id)?)
    }
}
