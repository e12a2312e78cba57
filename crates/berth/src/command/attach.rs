//! `attach`.

use berth_spec::docker::ContainerInspect;

use super::interactive::{
    Resized, check_tty, exit_code, exit_with, follow_size, forward_signals, redraw,
    wait_in_background,
};
use super::{Takes, Verb, run};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::terminal::stdout_is_terminal;
use crate::terminal::streams::{self, Ended, Wiring};

#[derive(Debug, clap::Args)]
pub struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    words: Vec<String>,
}

impl Verb for Attach {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let name = &self.words[0];
        let container: ContainerInspect = client
            .get(format!("/containers/{name}/json"))
            .json()
            .await?;
        let (id, config, state) = (&container.id, &container.config, &container.state);
        if !state.running {
            return Err(Failure::new(
                "cannot attach to a stopped container, start it first",
            ));
        }
        if state.paused {
            return Err(Failure::new(
                "cannot attach to a paused container, unpause it first",
            ));
        }
        if state.restarting {
            return Err(Failure::new(
                "cannot attach to a restarting container, wait until it is running",
            ));
        }
        let wiring = Wiring {
            stdin: !self.no_stdin && config.open_stdin,
            stdout: true,
            stderr: true,
            tty: config.tty,
            detach_keys: self
                .detach_keys
                .clone()
                .or_else(|| cli.config.detach_keys().map(str::to_owned)),
        };
        check_tty(!self.no_stdin && config.open_stdin, config.tty)?;
        let waiter = wait_in_background(client, id, "").await?;
        let _signals = if self.sig_proxy && !config.tty {
            Some(forward_signals(client, id)?)
        } else {
            None
        };
        let connection = run::attach(client, id, &wiring, false).await?;
        let _size = if config.tty && stdout_is_terminal() {
            // A change of size makes the program inside draw itself anew.
            redraw(client, id).await;
            Some(follow_size(client, id, Resized::Container).await?)
        } else {
            None
        };
        match streams::run(connection, &wiring).await? {
            Ended::Detached => Err(Failure::new("read escape sequence")),
            Ended::Output | Ended::Input => exit_with(exit_code(waiter).await),
        }
    }
}
