//! `create`: a container from an image, pulled first where it is missing.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;

use berth_client::Client;
use berth_spec::docker::{ContainerCreateBody, ContainerCreateResponse};

use super::container_options::ContainerOptions;
use super::{Takes, Verb, api_socket, pull};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::progress::Sink;
use crate::{reference, terminal};

/// What `run` and `create` do before there is a container.
#[derive(Debug, Clone, clap::Args)]
pub struct CreateOptions {
    /// Assign a name to the container
    #[arg(long, value_name = "string", default_value = "")]
    pub name: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub platform: Option<String>,
    /// Suppress the pull output
    #[arg(short, long)]
    pub quiet: bool,
    /// Bind mount Docker API socket and required auth
    #[arg(long)]
    pub use_api_socket: bool,
}

#[derive(Debug, clap::Args)]
pub struct Create {
    #[command(flatten)]
    creation: CreateOptions,
    /// Pull image before creating ("always", "|missing", "never")
    #[arg(long, value_name = "string", default_value = "missing")]
    pull: String,
    #[command(flatten)]
    container: ContainerOptions,
    words: Vec<String>,
}

impl Verb for Create {
    const ARGUMENTS: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const TAKES: Takes = Takes::AtLeast(1);
    const FIRST_WORD_ENDS_OPTIONS: bool = true;

    async fn run(self, cli: &Cli) -> Outcome {
        check_system(&self.container)?;
        check_pull(&self.pull).map_err(|e| Failure::with_code(125, cli.with_help(e, "create")))?;
        let client = cli.client().await?;
        let body = body(cli, &self.container, &self.words)
            .map_err(|e| Failure::with_code(125, cli.with_help(e, "create")))?;
        let id = create(cli, client, body, &self.creation, &self.pull).await?;
        println!("{id}");
        Ok(())
    }
}

/// Checks the value of `--pull`.
pub fn check_pull(value: &str) -> Result<(), String> {
    if matches!(value, "always" | "missing" | "never" | "") {
        Ok(())
    } else {
        Err(format!(
            "invalid pull option: '{value}': must be one of \"always\", \"missing\" or \"never\""
        ))
    }
}

/// Refuses what containers of this system cannot have.
pub fn check_system(options: &ContainerOptions) -> Outcome {
    match options.of_another_system() {
        None => Ok(()),
        Some(name) => Err(Failure::new(format!(
            "\"--{name}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
        ))),
    }
}

/// The body for the words of a command line.
pub fn body(
    cli: &Cli,
    options: &ContainerOptions,
    words: &[String],
) -> Result<ContainerCreateBody, String> {
    let (image, command) = words.split_first().ok_or("no image given")?;
    let proxies = cli.config.proxies(&cli.endpoint.host.to_string());
    options.body(image, command, &proxies)
}

/// Creates the container and returns its ID.
pub async fn create(
    cli: &Cli,
    client: &Client,
    mut body: ContainerCreateBody,
    options: &CreateOptions,
    pull: &str,
) -> Outcome<String> {
    if options.use_api_socket {
        api_socket::mount(cli, &mut body)?;
    }
    let cid_file = CidFile::new(&body.host_config.container_id_file)?;
    let image = body.config.image.clone();
    let platform = cli.platform(&options.platform);
    if pull == "always" {
        pull_image(cli, client, &image, &platform, options.quiet).await?;
    }
    if let Some(size) = terminal::size::of_stdout() {
        body.host_config.console_size = [size.rows.into(), size.columns.into()];
    }
    let request = || {
        client
            .post("/containers/create")
            .query("name", &options.name)
            .query("platform", &platform)
            .body_json(&body)
    };
    let created: ContainerCreateResponse = match request()?.json().await {
        Err(e) if e.is_not_found() && pull == "missing" && is_about_image(&e) => {
            if !options.quiet {
                eprintln!(
                    "Unable to find image '{}' locally",
                    reference::with_default_tag(&image)
                );
            }
            pull_image(cli, client, &image, &platform, options.quiet).await?;
            request()?.json().await?
        }
        other => other?,
    };
    let mut warnings = created.warnings;
    let local = body
        .host_config
        .dns
        .iter()
        .flatten()
        .find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    warnings.extend(local.map(|ip| format!("Localhost DNS ({ip}) may fail in containers.")));
    for warning in &warnings {
        eprintln!("WARNING: {warning}");
    }
    cid_file.write(&created.id)?;
    if options.use_api_socket {
        api_socket::give_credentials(cli, client, &created.id, &body).await?;
    }
    Ok(created.id)
}

/// Whether an answer of "not found" is about the image, not a network or volume.
fn is_about_image(error: &berth_client::Error) -> bool {
    error.message().to_lowercase().contains("no such image")
}

async fn pull_image(
    cli: &Cli,
    client: &Client,
    image: &str,
    platform: &str,
    quiet: bool,
) -> Outcome {
    let sink = if quiet { Sink::Nothing } else { Sink::Stderr };
    pull::pull(cli, client, image, platform, sink).await
}

/// `--cidfile`: made before the container, so that a clash is seen first; it goes again
/// where no container comes to be.
struct CidFile {
    path: String,
    file: Option<File>,
    written: bool,
}

impl CidFile {
    fn new(path: &str) -> Outcome<Self> {
        let mut cid_file = CidFile {
            path: path.to_owned(),
            file: None,
            written: false,
        };
        if !path.is_empty() {
            let created = File::options().write(true).create_new(true).open(path);
            cid_file.file = Some(created.map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => Failure::new(format!("container ID file found, make sure the other container isn't running or delete {path}")),
                _ => Failure::new(format!("failed to create the container ID file: {e}")),
            })?);
        }
        Ok(cid_file)
    }

    fn write(mut self, id: &str) -> Outcome {
        if let Some(file) = &mut self.file {
            file.write_all(id.as_bytes()).map_err(|e| {
                Failure::new(format!("failed to write the container ID to the file: {e}"))
            })?;
            self.written = true;
        }
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if self.file.is_some()
            && !self.written
            && let Err(e) = std::fs::remove_file(&self.path)
        {
            eprintln!("failed to remove the CID file '{}': {e}", self.path);
        }
    }
}
