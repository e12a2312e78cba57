//! `network create`, `ls`, `rm`, `connect` and `disconnect`.

use std::net::IpAddr;

use berth_spec::docker::network::{
    ConfigReference, EndpointIpam, Ipam, IpamConfig, NetworkConnectBody, NetworkCreateResponse,
    NetworkDisconnectBody,
};
use berth_spec::docker::{EndpointSettings, Network, NetworkCreateBody};

use super::ps::{FORMAT_HELP, joined};
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::rows::{self, Field, Row};
use crate::format::time;
use crate::option::filter::{self, Filters};
use crate::option::key_value::{self, to_map};
use crate::option::value;
use crate::reference;

const FIELDS: [Field; 9] = [
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

#[derive(Debug, clap::Args)]
pub struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "string", default_value = "")]
    config_from: String,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "string", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options (default map[])
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment (default true)
    #[arg(long, default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = value::go_bool)]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = value::go_bool)]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "list", value_parser = key_value::label)]
    label: Vec<String>,
    /// Set driver specific options (default map[])
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string", default_value = "")]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    words: Vec<String>,
}

impl Verb for Create {
    const ARGUMENTS: &'static str = "[OPTIONS] NETWORK";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let body = NetworkCreateBody {
            name: self.words[0].clone(),
            driver: self.driver.clone(),
            scope: self.scope.clone(),
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Some(Ipam {
                driver: self.ipam_driver.clone(),
                options: Some(to_map(&self.ipam_opt)),
                config: Some(self.subnets()?),
            }),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: (!self.config_from.is_empty()).then(|| ConfigReference {
                network: self.config_from.clone(),
            }),
            options: Some(to_map(&self.opt)),
            labels: Some(to_map(&self.label)),
            // Engines of before 2024 allow a name twice unless asked not to.
            check_duplicate: Some(true),
        };
        let client = cli.client().await?;
        let made: NetworkCreateResponse = client
            .post("/networks/create")
            .body_json(&body)?
            .json()
            .await?;
        if !made.warning.is_empty() {
            eprintln!("WARNING: {}", made.warning);
        }
        println!("{}", made.id);
        Ok(())
    }
}

impl Create {
    /// Subnets, each with the range, gateway and addresses that lie in it.
    fn subnets(&self) -> Result<Vec<IpamConfig>, String> {
        if self.subnet.len() < self.ip_range.len() || self.subnet.len() < self.gateway.len() {
            return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
        }
        let mut configs: Vec<IpamConfig> = Vec::new();
        for subnet in &self.subnet {
            for other in &configs {
                if contains(subnet, &other.subnet)? || contains(&other.subnet, subnet)? {
                    return Err(
                        "multiple overlapping subnet configuration is not supported".to_owned()
                    );
                }
            }
            contains(subnet, subnet)?;
            configs.push(IpamConfig {
                subnet: subnet.clone(),
                ..IpamConfig::default()
            });
        }
        for range in &self.ip_range {
            let config = owner(&mut configs, range)?
                .ok_or_else(|| format!("no matching subnet for range {range}"))?;
            if !config.ip_range.is_empty() {
                return Err(format!(
                    "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                    config.ip_range, config.subnet
                ));
            }
            config.ip_range.clone_from(range);
        }
        for gateway in &self.gateway {
            let config = owner(&mut configs, gateway)?
                .ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
            if !config.gateway.is_empty() {
                return Err(format!(
                    "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                    config.gateway, config.subnet
                ));
            }
            config.gateway.clone_from(gateway);
        }
        for (name, address) in to_map(&self.aux_address) {
            let config = owner(&mut configs, &address)?
                .ok_or_else(|| format!("no matching subnet for aux-address {address}"))?;
            config.auxiliary_addresses.insert(name, address);
        }
        Ok(configs)
    }
}

fn owner<'a>(
    configs: &'a mut [IpamConfig],
    address: &str,
) -> Result<Option<&'a mut IpamConfig>, String> {
    for config in configs {
        if contains(&config.subnet, address)? {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

/// Whether an address (or the first of a range) lies in a subnet.
fn contains(subnet: &str, address: &str) -> Result<bool, String> {
    let invalid = || format!("invalid subnet: invalid CIDR address: {subnet}");
    let (base, length) = subnet.split_once('/').ok_or_else(invalid)?;
    let base: IpAddr = base.parse().map_err(|_| invalid())?;
    let length: u32 = length.parse().map_err(|_| invalid())?;
    let bare = address.split('/').next().unwrap_or(address);
    let Ok(address) = bare.parse::<IpAddr>() else {
        return Ok(false);
    };
    let (base, address, width) = match (base, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return Ok(false),
    };
    if length > width {
        return Err(invalid());
    }
    let shift = width - length;
    Ok(shift == 128 || base >> shift == address >> shift)
}

#[derive(Debug, clap::Args)]
pub struct List {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for List {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let mut networks: Vec<Network> = client
            .get("/networks")
            .query("filters", Filters::new(&self.filter)?.to_query())
            .json()
            .await?;
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        let configured = cli.config.format("networksFormat").filter(|_| !self.quiet);
        let template = match self.format.as_deref().or(configured).unwrap_or("table") {
            "table" if self.quiet => "{{.ID}}",
            "table" => "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
            "raw" if self.quiet => "network_id: {{.ID}}",
            "raw" => {
                "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
            }
            other => other,
        };
        let rows = networks.iter().map(|network| self.row(network)).collect();
        rows::print(template, &FIELDS, rows)
    }
}

impl List {
    fn row(&self, network: &Network) -> Row {
        let id = if self.no_trunc {
            &network.id
        } else {
            reference::short_id(&network.id)
        };
        let mut row = Row::default();
        row.set("ID", id)
            .set("Name", network.name.clone())
            .set("Driver", network.driver.clone())
            .set("Scope", network.scope.clone())
            .set("IPv4", network.enable_ipv4.to_string())
            .set("IPv6", network.enable_ipv6.to_string())
            .set("Internal", network.internal.to_string())
            .set("Labels", joined(&network.labels))
            .set("CreatedAt", time::go_local(&network.created))
            .set_labels(&network.labels);
        row
    }
}

#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    words: Vec<String>,
}

impl Verb for Remove {
    const ARGUMENTS: &'static str = "NETWORK [NETWORK...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client().await?;
        let mut failed = false;
        for name in &self.words {
            match client.delete(format!("/networks/{name}")).done().await {
                Ok(()) => println!("{name}"),
                Err(e) if self.force && e.is_not_found() => {}
                Err(e) => {
                    eprintln!("{e}");
                    failed = true;
                }
            }
        }
        if failed {
            Err(Failure::new("exit status 1"))
        } else {
            Ok(())
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    driver_opt: Vec<String>,
    #[arg(
        long,
        value_name = "int",
        value_parser = value::int,
        help = "Highest gw-priority provides the default gateway. Accepts positive and negative values."
    )]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string", default_value = "")]
    ip: String,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string", default_value = "")]
    ip6: String,
    /// Add link to another container
    #[arg(long, value_name = "list", value_parser = value::link)]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    words: Vec<String>,
}

impl Verb for Connect {
    const ARGUMENTS: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const TAKES: Takes = Takes::Exactly(2);

    async fn run(self, cli: &Cli) -> Outcome {
        if self.driver_opt.iter().any(|option| !option.contains('=')) {
            return Err(Failure::new(
                "invalid key/value pair format in driver options",
            ));
        }
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let body = NetworkConnectBody {
            container: self.words[1].clone(),
            endpoint_config: Some(EndpointSettings {
                ipam_config: Some(EndpointIpam {
                    ipv4_address: self.ip,
                    ipv6_address: self.ip6,
                    link_local_ips: self.link_local_ip,
                }),
                links: some(self.link),
                aliases: some(self.alias),
                driver_opts: Some(to_map(&self.driver_opt)),
                gw_priority: self.gw_priority.unwrap_or(0),
                ..EndpointSettings::default()
            }),
        };
        let client = cli.client().await?;
        let path = format!("/networks/{}/connect", self.words[0]);
        Ok(client.post(path).body_json(&body)?.done().await?)
    }
}

#[derive(Debug, clap::Args)]
pub struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    words: Vec<String>,
}

impl Verb for Disconnect {
    const ARGUMENTS: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const TAKES: Takes = Takes::Exactly(2);

    async fn run(self, cli: &Cli) -> Outcome {
        let body = NetworkDisconnectBody {
            container: self.words[1].clone(),
            force: self.force,
        };
        let client = cli.client().await?;
        let path = format!("/networks/{}/disconnect", self.words[0]);
        Ok(client.post(path).body_json(&body)?.done().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_contain_addresses() {
        assert_eq!(contains("10.1.0.0/16", "10.1.2.3"), Ok(true));
        assert_eq!(contains("10.1.0.0/16", "10.2.0.0/24"), Ok(false));
        assert_eq!(contains("::/0", "fe80::1"), Ok(true));
        assert!(contains("x", "1.2.3.4").is_err() && contains("1.2.3.4/33", "1.2.3.4").is_err());
    }
}
