//! `port`.

use berth_spec::docker::ContainerInspect;

use super::ps::host_port;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Port {
    words: Vec<String>,
}

impl Verb for Port {
    const ARGUMENTS: &'static str = "CONTAINER [PRIVATE_PORT[/PROTO]]";
    const TAKES: Takes = Takes::Between(1, 2);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let name = &self.words[0];
        let container: ContainerInspect = client
            .get(format!("/containers/{name}/json"))
            .json()
            .await?;
        let ports = &container.network_settings.ports;
        let mut lines = Vec::new();
        match self.words.get(1) {
            Some(asked) => {
                let (port, protocol) = asked.split_once('/').unwrap_or((asked, "tcp"));
                let number = port.parse::<u16>().map_err(|_| {
                    Failure::new(format!("Error: invalid port ({port}): strconv.ParseUint: parsing {port:?}: invalid syntax"))
                })?;
                let found = ports.get(&format!("{number}/{protocol}"));
                lines.extend(
                    found
                        .iter()
                        .flat_map(|f| f.iter().flatten())
                        .map(|side| (number, host_port(&side.host_ip, &side.host_port))),
                );
                if lines.is_empty() {
                    return Err(Failure::new(format!(
                        "Error: No public port '{asked}' published for {name}"
                    )));
                }
            }
            None => {
                for (port, sides) in ports {
                    let number = port.split('/').next().and_then(|p| p.parse().ok());
                    lines.extend(sides.iter().flatten().map(|side| {
                        let host = host_port(&side.host_ip, &side.host_port);
                        (number.unwrap_or(0), format!("{port} -> {host}"))
                    }));
                }
            }
        }
        lines.sort();
        for (_, line) in lines {
            println!("{line}");
        }
        Ok(())
    }
}
