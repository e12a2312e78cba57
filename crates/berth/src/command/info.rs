//! `info`.

use std::fmt::Write;

use berth_client::Client;
use berth_spec::docker::SystemInfo;
use berth_spec::docker::system::RegistryQuota;
use serde_json::json;

use super::inspect::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::rows::print_value;
use crate::format::tree::Tree;
use crate::format::{size, write_stdout};
use crate::reference;

#[derive(Debug, clap::Args)]
pub struct Info {
    #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    words: Vec<String>,
}

impl Verb for Info {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let format = self.format.as_deref().filter(|f| !f.is_empty());
        let server = match cli.client().await {
            Ok(client) => ask(client).await,
            Err(e) => Err(e),
        };
        let Some(format) = format else {
            let mut text = client_text(cli);
            text.push_str("\nServer:\n");
            if let Ok((info, _)) = &server {
                text.push_str(&server_text(cli, info));
            }
            write_stdout(text.as_bytes())?;
            if let Ok((info, _)) = &server {
                for warning in info.warnings.iter().flatten() {
                    eprintln!("{warning}");
                }
            }
            return server.map(drop);
        };
        let (_, mut tree) = server?;
        if let Tree::Object(members) = &mut tree {
            members.push(("ClientInfo".to_owned(), client_tree(cli)?));
        }
        print_value(format, &tree)
    }
}

async fn ask(client: &Client) -> Outcome<(SystemInfo, Tree)> {
    let bytes = client.get("/info").bytes().await?;
    let broken = |e: serde_json::Error| Failure::new(format!("/info: {e}"));
    let info = serde_json::from_slice(&bytes).map_err(broken)?;
    Ok((info, serde_json::from_slice(&bytes).map_err(broken)?))
}

fn client_tree(cli: &Cli) -> Outcome<Tree> {
    let client = json!({
        "Debug": cli.debug,
        "Version": env!("CARGO_PKG_VERSION"),
        "DefaultAPIVersion": berth_spec::docker::API_VERSION,
        "Os": "linux",
        "Arch": super::version::architecture(),
        "Context": cli.endpoint.context,
        "Plugins": [],
        "Warnings": null,
    });
    serde_json::from_value(client).map_err(|e| Failure::new(e.to_string()))
}

fn client_text(cli: &Cli) -> String {
    format!(
        "Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n",
        env!("CARGO_PKG_VERSION"),
        cli.endpoint.context,
        cli.debug
    )
}

/// A text that grows line by line. Writing to a string does not fail.
struct Lines(String);

impl Lines {
    fn line(&mut self, label: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, " {label}: {value}");
    }

    fn unless_empty(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.line(label, value);
        }
    }

    fn raw(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{text}");
    }
}

fn server_text(cli: &Cli, info: &SystemInfo) -> String {
    let mut out = Lines(String::new());
    storage(&mut out, info);
    plugins(&mut out, info);
    runtimes(&mut out, info);
    security(&mut out, info);
    machine(&mut out, info);
    out.line("Debug Mode", info.debug);
    if info.debug || cli.debug {
        out.line(" File Descriptors", info.n_fd);
        out.line(" Goroutines", info.n_goroutines);
        out.line(" System Time", &info.system_time);
        out.line(" EventsListeners", info.n_events_listener);
    }
    out.unless_empty("HTTP Proxy", &info.http_proxy);
    out.unless_empty("HTTPS Proxy", &info.https_proxy);
    out.unless_empty("No Proxy", &info.no_proxy);
    if let Ok(Some(login)) = cli.config.credentials(reference::DEFAULT_REGISTRY) {
        out.unless_empty("Username", &login.username);
    }
    if !info.labels.is_empty() {
        out.raw(" Labels:");
        info.labels
            .iter()
            .for_each(|label| out.raw(format!("  {label}")));
    }
    out.line("Experimental", info.experimental_build);
    registries(&mut out, info);
    out.line("Live Restore Enabled", info.live_restore_enabled);
    out.unless_empty("Product License", &info.product_license);
    if let Some(pools) = info
        .default_address_pools
        .as_ref()
        .filter(|p| !p.is_empty())
    {
        out.raw(" Default Address Pools:");
        for pool in pools {
            out.raw(format!("   Base: {}, Size: {}", pool.base, pool.size));
        }
    }
    out.raw("");
    out.0
}

fn storage(out: &mut Lines, info: &SystemInfo) {
    out.line("Containers", info.containers);
    out.line(" Running", info.containers_running);
    out.line(" Paused", info.containers_paused);
    out.line(" Stopped", info.containers_stopped);
    out.line("Images", info.images);
    out.unless_empty("Server Version", &info.server_version);
    out.unless_empty("Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        out.raw(format!("  {name}: {value}"));
    }
    for [name, value] in &info.system_status {
        out.line(name, value);
    }
    out.unless_empty("Logging Driver", &info.logging_driver);
    out.unless_empty("Cgroup Driver", &info.cgroup_driver);
    out.unless_empty("Cgroup Version", &info.cgroup_version);
}

fn plugins(out: &mut Lines, info: &SystemInfo) {
    let plugins = &info.plugins;
    out.raw(" Plugins:");
    out.raw(format!("  Volume: {}", plugins.volume.join(" ")));
    out.raw(format!("  Network: {}", plugins.network.join(" ")));
    if let Some(authorization) = plugins.authorization.as_ref().filter(|a| !a.is_empty()) {
        out.raw(format!("  Authorization: {}", authorization.join(" ")));
    }
    out.raw(format!("  Log: {}", plugins.log.join(" ")));
    if !info.cdi_spec_dirs.is_empty() {
        out.raw(" CDI spec directories:");
        info.cdi_spec_dirs
            .iter()
            .for_each(|dir| out.raw(format!("  {dir}")));
    }
    out.line("Swarm", &info.swarm.local_node_state);
}

fn runtimes(out: &mut Lines, info: &SystemInfo) {
    if !info.runtimes.is_empty() {
        let names: Vec<_> = info.runtimes.keys().map(String::as_str).collect();
        out.line("Runtimes", names.join(" "));
        out.line("Default Runtime", &info.default_runtime);
    }
    if info.os_type == "linux" {
        out.line("Init Binary", &info.init_binary);
        out.line("containerd version", &info.containerd_commit.id);
        out.line("runc version", &info.runc_commit.id);
        out.line("init version", &info.init_commit.id);
    }
}

fn security(out: &mut Lines, info: &SystemInfo) {
    if info.os_type != "linux" || info.security_options.is_empty() {
        return;
    }
    out.raw(" Security Options:");
    for option in &info.security_options {
        let pairs: Vec<_> = option
            .split(',')
            .filter_map(|p| p.split_once('='))
            .collect();
        let name = pairs.iter().find(|(key, _)| *key == "name");
        out.raw(format!(
            "  {}",
            name.map_or(option.as_str(), |(_, value)| value)
        ));
        for (_, value) in pairs.iter().filter(|(key, _)| *key == "profile") {
            out.raw(format!("   Profile: {value}"));
        }
    }
}

fn machine(out: &mut Lines, info: &SystemInfo) {
    out.unless_empty("Kernel Version", &info.kernel_version);
    out.unless_empty("Operating System", &info.operating_system);
    out.unless_empty("OSType", &info.os_type);
    out.unless_empty("Architecture", &info.architecture);
    out.line("CPUs", info.ncpu);
    out.line("Total Memory", size::binary(info.mem_total as f64));
    out.unless_empty("Name", &info.name);
    out.unless_empty("ID", &info.id);
    out.line("Docker Root Dir", &info.docker_root_dir);
}

fn registries(out: &mut Lines, info: &SystemInfo) {
    let Some(config) = &info.registry_config else {
        return;
    };
    if !config.insecure_registry_cidrs.is_empty() || !config.index_configs.is_empty() {
        out.raw(" Insecure Registries:");
        for index in config.index_configs.values().filter(|index| !index.secure) {
            out.raw(format!("  {}", index.name));
        }
        for range in &config.insecure_registry_cidrs {
            out.raw(format!("  {range}"));
        }
    }
    for quota in &info.registry_quotas {
        let RegistryQuota {
            registry,
            limit,
            remaining,
            window,
            ..
        } = quota;
        let hours = match window {
            0 => String::new(),
            seconds => format!(" in {} h", seconds / 3600),
        };
        out.raw(format!(
            " Pulls left at {registry}: {remaining} of {limit}{hours}"
        ));
    }
    if !config.mirrors.is_empty() {
        out.raw(" Registry Mirrors:");
        config
            .mirrors
            .iter()
            .for_each(|mirror| out.raw(format!("  {mirror}")));
    }
}
