//! `logout`.

use super::login::{hostname, server};
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::Outcome;
use crate::reference::DEFAULT_REGISTRY;

#[derive(Debug, clap::Args)]
pub struct Logout {
    words: Vec<String>,
}

impl Verb for Logout {
    const ARGUMENTS: &'static str = "[SERVER]";
    const TAKES: Takes = Takes::AtMost(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let given = self.words.first().filter(|word| !word.is_empty());
        let (shown, keys) = match given {
            None => (
                DEFAULT_REGISTRY.to_owned(),
                vec![DEFAULT_REGISTRY.to_owned()],
            ),
            Some(address) => {
                // Earlier clients kept it under other keys.
                let host = hostname(address);
                let mut keys = vec![
                    server(given),
                    address.clone(),
                    format!("http://{host}"),
                    format!("https://{host}"),
                ];
                keys.dedup();
                (host.to_owned(), keys)
            }
        };
        println!("Removing login credentials for {shown}");
        let mut config = cli.config.clone();
        let failed: Vec<_> = keys
            .iter()
            .filter_map(|key| config.erase_credentials(key).err().map(|e| (key, e)))
            .collect();
        if failed.len() == keys.len() {
            eprintln!("WARNING: could not erase credentials:");
            for (key, error) in failed {
                eprintln!("{key}: {error}");
            }
        }
        Ok(())
    }
}
