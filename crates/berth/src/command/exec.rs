//! `exec`.

use berth_client::Client;
use berth_spec::docker::exec::ExecCreateResponse;
use berth_spec::docker::{ExecCreateBody, ExecInspect, ExecStartBody};

use super::interactive::{Resized, check_tty, exit_with, follow_size};
use super::{Takes, Verb, run};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::option::key_value;
use crate::terminal::streams::{self, Ended, Wiring};
use crate::terminal::{self, stdout_is_terminal};

#[derive(Debug, clap::Args)]
pub struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = key_value::env)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string", default_value = "")]
    user: String,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", default_value = "")]
    workdir: String,
    words: Vec<String>,
}

impl Verb for Exec {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER COMMAND [ARG...]";
    const TAKES: Takes = Takes::AtLeast(2);
    const FIRST_WORD_ENDS_OPTIONS: bool = true;

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let body = self.body(cli)?;
        let container = &self.words[0];
        if !self.detach {
            // Before the terminal is looked at: a container that is not there is told first.
            client
                .get(format!("/containers/{container}/json"))
                .done()
                .await?;
            check_tty(body.attach_stdin, body.tty)?;
        }
        let created: ExecCreateResponse = client
            .post(format!("/containers/{container}/exec"))
            .body_json(&body)?
            .json()
            .await?;
        if created.id.is_empty() {
            return Err(Failure::new("exec ID empty"));
        }
        let start = ExecStartBody {
            detach: self.detach,
            tty: self.tty,
            console_size: body.console_size,
        };
        if self.detach {
            return Ok(client
                .post(format!("/exec/{}/start", created.id))
                .body_json(&start)?
                .done()
                .await?);
        }
        self.attached(client, &created.id, &start, &body).await
    }
}

impl Exec {
    fn body(&self, cli: &Cli) -> Outcome<ExecCreateBody> {
        let env = key_value::collect(&self.env_file, &self.env, true)?;
        let keys = self.detach_keys.as_deref().or(cli.config.detach_keys());
        let size = terminal::size::of_stdout().filter(|_| self.tty && !self.detach);
        Ok(ExecCreateBody {
            user: self.user.clone(),
            privileged: self.privileged,
            tty: self.tty,
            console_size: size.map(|size| [size.rows.into(), size.columns.into()]),
            attach_stdin: !self.detach && self.interactive,
            attach_stdout: !self.detach,
            attach_stderr: !self.detach,
            detach_keys: keys.unwrap_or_default().to_owned(),
            env: (!env.is_empty()).then_some(env),
            working_dir: self.workdir.clone(),
            cmd: Some(self.words[1..].to_vec().into()),
        })
    }

    async fn attached(
        &self,
        client: &Client,
        id: &str,
        start: &ExecStartBody,
        body: &ExecCreateBody,
    ) -> Outcome {
        let connection = client
            .post(format!("/exec/{id}/start"))
            .body_json(start)?
            .hijack()
            .await
            .map_err(|e| match run::start_code(&e.to_string()) {
                125 => Failure::from(e),
                code => Failure::with_code(code, e.to_string()),
            })?;
        let wiring = Wiring {
            stdin: body.attach_stdin,
            stdout: true,
            stderr: true,
            tty: self.tty,
            detach_keys: Some(body.detach_keys.clone()).filter(|keys| !keys.is_empty()),
        };
        let _size = if self.tty && stdout_is_terminal() {
            Some(follow_size(client, id, Resized::Exec).await?)
        } else {
            None
        };
        match streams::run(connection, &wiring).await? {
            Ended::Detached => Err(Failure::new("read escape sequence")),
            Ended::Output | Ended::Input => {
                let ended: ExecInspect = client.get(format!("/exec/{id}/json")).json().await?;
                exit_with(ended.exit_code.unwrap_or(0))
            }
        }
    }
}
