//! `stop`, and what `restart` shares with it: how a container is made to end.

use super::each::each;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::option::value;

/// What `stop` and `restart` are told, and on whom.
#[derive(Debug, clap::Args)]
pub struct Ending {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string", default_value = "")]
    signal: String,
    /// Seconds to wait before killing the container
    #[arg(short, long, value_name = "int", value_parser = value::int)]
    timeout: Option<i64>,
    /// Seconds to wait before killing the container (deprecated: use --timeout)
    #[arg(long, value_name = "int", value_parser = value::int, hide = true)]
    time: Option<i64>,
    words: Vec<String>,
}

impl Ending {
    /// Asks the engine to do `verb` with each container, and prints those that it was done with.
    pub async fn ask(self, cli: &Cli, verb: &str) -> Outcome {
        if self.timeout.is_some() && self.time.is_some() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --timeout and --time",
            ));
        }
        if self.time.is_some() {
            eprintln!("Flag --time has been deprecated, use --timeout instead");
        }
        let client = cli.client().await?;
        let timeout = self
            .timeout
            .or(self.time)
            .map(|seconds| seconds.to_string());
        let (timeout, signal) = (timeout.as_deref().unwrap_or(""), &self.signal);
        each(&self.words, |word| async move {
            client
                .post(format!("/containers/{word}/{verb}"))
                .query("t", timeout)
                .query("signal", signal)
                .done()
                .await
                .map(|()| word)
        })
        .await
    }
}

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[command(flatten)]
    ending: Ending,
}

impl Verb for Stop {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        self.ending.ask(cli, "stop").await
    }
}
