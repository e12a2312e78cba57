//! `start`.

use berth_spec::docker::ContainerInspect;

use super::interactive::{
    Resized, exit_code, exit_with, follow_size, forward_signals, wait_in_background,
};
use super::{Takes, Verb, run};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::terminal::stdout_is_terminal;
use crate::terminal::streams::{self, Ended, Wiring};

#[derive(Debug, clap::Args)]
pub struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    words: Vec<String>,
}

impl Verb for Start {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        if self.attach || self.interactive {
            if self.words.len() > 1 {
                return Err(Failure::new(
                    "you cannot start and attach multiple containers at once",
                ));
            }
            return self.attached(cli, &self.words[0]).await;
        }
        let client = cli.client().await?;
        let mut failed = Vec::new();
        for word in &self.words {
            match run::start(client, word).await {
                Ok(()) => println!("{word}"),
                Err(e) => {
                    eprintln!("{e}");
                    failed.push(word.as_str());
                }
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "Error: failed to start containers: {}",
                failed.join(", ")
            )))
        }
    }
}

impl Start {
    async fn attached(&self, cli: &Cli, name: &str) -> Outcome {
        let client = cli.client().await?;
        let container: ContainerInspect = client
            .get(format!("/containers/{name}/json"))
            .json()
            .await?;
        let (id, config) = (&container.id, &container.config);
        let _signals = if config.tty {
            None
        } else {
            Some(forward_signals(client, id)?)
        };
        let keys = self.detach_keys.clone();
        let wiring = Wiring {
            stdin: self.interactive && config.open_stdin,
            stdout: true,
            stderr: true,
            tty: config.tty,
            detach_keys: keys.or_else(|| cli.config.detach_keys().map(str::to_owned)),
        };
        let connection = run::attach(client, id, &wiring, false).await?;
        let removed = container.host_config.auto_remove;
        let condition = if removed { "removed" } else { "next-exit" };
        let waiter = wait_in_background(client, id, condition).await?;
        if let Err(failure) = run::start(client, id).await {
            if removed {
                // Until it is removed; why it did not start is told below.
                let _ = waiter.await;
            }
            return Err(failure);
        }
        let _size = if config.tty && stdout_is_terminal() {
            Some(follow_size(client, id, Resized::Container).await?)
        } else {
            None
        };
        match streams::run(connection, &wiring).await? {
            Ended::Detached => Ok(()),
            Ended::Output | Ended::Input => exit_with(exit_code(waiter).await),
        }
    }
}
