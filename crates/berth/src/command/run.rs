//! `run`: create, attach, start, and wait.

use berth_client::Client;
use berth_spec::docker::ContainerConfig;

use super::container_options::ContainerOptions;
use super::create::{self, CreateOptions};
use super::interactive::{
    Resized, Waiter, check_tty, exit_code, exit_with, follow_size, forward_signals,
    wait_in_background,
};
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::terminal::stdout_is_terminal;
use crate::terminal::streams::{self, Ended, Wiring};

#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    creation: CreateOptions,
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Proxy received signals to the process
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "string", default_value = "missing")]
    pull: String,
    #[command(flatten)]
    container: ContainerOptions,
    words: Vec<String>,
}

impl Verb for Run {
    const ARGUMENTS: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const TAKES: Takes = Takes::AtLeast(1);
    const FIRST_WORD_ENDS_OPTIONS: bool = true;

    async fn run(self, cli: &Cli) -> Outcome {
        let wrong = |e: String| Failure::with_code(125, cli.with_help(e, "run"));
        create::check_system(&self.container)?;
        create::check_pull(&self.pull).map_err(wrong)?;
        let mut body = create::body(cli, &self.container, &self.words).map_err(wrong)?;
        if self.detach {
            if !self.container.attach.is_empty() {
                return Err(Failure::new(
                    "conflicting options: cannot specify both --attach and --detach",
                ));
            }
            let config = &mut body.config;
            config.attach_stdin = false;
            config.attach_stdout = false;
            config.attach_stderr = false;
            config.stdin_once = false;
        } else {
            check_tty(body.config.attach_stdin, body.config.tty)?;
        }
        let client = cli.client().await?;
        let config = body.config.clone();
        let id = create::create(cli, client, body, &self.creation, &self.pull)
            .await
            .map_err(|e| started_failure(cli, e))?;
        let _signals = if self.sig_proxy && !self.detach {
            Some(forward_signals(client, &id)?)
        } else {
            None
        };
        if config.attach_stdin || config.attach_stdout || config.attach_stderr {
            self.attached(cli, client, &id, &config).await
        } else {
            println!("{id}");
            start(client, &id)
                .await
                .map_err(|e| started_failure(cli, e))
        }
    }
}

impl Run {
    async fn attached(
        &self,
        cli: &Cli,
        client: &Client,
        id: &str,
        config: &ContainerConfig,
    ) -> Outcome {
        let keys = self.detach_keys.clone();
        let keys = keys.or_else(|| cli.config.detach_keys().map(str::to_owned));
        let wiring = Wiring {
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
            tty: config.tty,
            detach_keys: keys,
        };
        let condition = if self.container.rm {
            "removed"
        } else {
            "next-exit"
        };
        // Both are there before the start, in either order.
        let (connection, waiter) = tokio::try_join!(
            attach(client, id, &wiring, false),
            wait_in_background(client, id, condition)
        )?;
        if let Err(failure) = start(client, id).await {
            if self.container.rm {
                // Until it is removed; why it did not start is told below.
                let _ = waiter.await;
            }
            return Err(started_failure(cli, failure));
        }
        let _size = if config.tty && stdout_is_terminal() {
            Some(follow_size(client, id, Resized::Container).await?)
        } else {
            None
        };
        if !config.attach_stdout && !config.attach_stderr {
            return input_only(connection, &wiring, waiter).await;
        }
        match streams::run(connection, &wiring).await? {
            Ended::Detached => Ok(()),
            Ended::Output | Ended::Input => exit_with(exit_code(waiter).await),
        }
    }
}

/// With no output to wait for, the exit is what ends it.
async fn input_only(
    connection: berth_client::Hijacked,
    wiring: &Wiring,
    waiter: Waiter,
) -> Outcome {
    let streaming = streams::run(connection, wiring);
    let exit = exit_code(waiter);
    tokio::pin!(streaming, exit);
    let mut sent = false;
    loop {
        tokio::select! {
            code = &mut exit => return exit_with(code),
            ended = &mut streaming, if !sent => match ended? {
                Ended::Detached => return Ok(()),
                _ => sent = true,
            },
        }
    }
}

/// Attaches to a container's streams.
pub async fn attach(
    client: &Client,
    id: &str,
    wiring: &Wiring,
    logs: bool,
) -> Outcome<berth_client::Hijacked> {
    Ok(client
        .post(format!("/containers/{id}/attach"))
        .flag("stream", true)
        .flag("stdin", wiring.stdin)
        .flag("stdout", wiring.stdout)
        .flag("stderr", wiring.stderr)
        .flag("logs", logs)
        .query("detachKeys", wiring.detach_keys.as_deref().unwrap_or(""))
        .hijack()
        .await?)
}

/// Starts a container.
pub async fn start(client: &Client, id: &str) -> Outcome {
    Ok(client
        .post(format!("/containers/{id}/start"))
        .done()
        .await?)
}

/// The exit code of a container that did not come up: 127 where its program is not there,
/// 126 where it cannot be run, 125 for anything else.
fn started_failure(cli: &Cli, failure: Failure) -> Failure {
    let text = &failure.message;
    Failure::with_code(start_code(text), cli.with_help(text, "run"))
}

/// The exit code for the engine's words about a process that did not start.
pub fn start_code(text: &str) -> u8 {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["executable file not found", "no such file or directory"]) {
        127
    } else if has(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}
