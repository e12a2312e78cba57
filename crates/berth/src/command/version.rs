//! `version`.

use berth_client::Client;
use berth_spec::docker::{API_VERSION, VersionResponse};
use serde_json::json;

use super::inspect::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::rows::{aligned_to, print_value};
use crate::format::tree::Tree;
use crate::format::{time, write_stdout};

#[derive(Debug, clap::Args)]
pub struct Version {
    #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    words: Vec<String>,
}

impl Verb for Version {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let (client, server) = match cli.client().await {
            Ok(client) => (Some(client), server(client).await),
            Err(e) => (None, Err(e)),
        };
        let spoken = match (client, &server) {
            (Some(client), Ok(_)) => client.api_version().await?,
            _ => API_VERSION.to_owned(),
        };
        match &self.format {
            Some(format) if !format.is_empty() => {
                let server = server.as_ref().ok().map(|(_, raw)| raw.clone());
                print_value(format, &tree(cli, &spoken, server.unwrap_or(Tree::Null))?)?;
            }
            _ => {
                let server = server.as_ref().ok().map(|(version, _)| version);
                write_stdout(text(cli, &spoken, server).as_bytes())?;
            }
        }
        server.map(drop)
    }
}

async fn server(client: &Client) -> Outcome<(VersionResponse, Tree)> {
    let bytes = client.get("/version").bytes().await?;
    let broken = |e: serde_json::Error| Failure::new(format!("/version: {e}"));
    let version = serde_json::from_slice(&bytes).map_err(broken)?;
    Ok((version, serde_json::from_slice(&bytes).map_err(broken)?))
}

/// Go's name of this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn tree(cli: &Cli, spoken: &str, server: Tree) -> Outcome<Tree> {
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": spoken,
        "DefaultAPIVersion": API_VERSION,
        "Os": "linux",
        "Arch": architecture(),
        "Context": cli.endpoint.context,
    });
    let client: Tree = serde_json::from_value(client).map_err(|e| Failure::new(e.to_string()))?;
    Ok(Tree::Object(vec![
        ("Client".to_owned(), client),
        ("Server".to_owned(), server),
    ]))
}

fn text(cli: &Cli, spoken: &str, server: Option<&VersionResponse>) -> String {
    let older = if spoken == API_VERSION {
        String::new()
    } else {
        format!(" (downgraded from {API_VERSION})")
    };
    let mut text = format!(
        "Client:\n Version:\t{}\n API version:\t{spoken}{older}\n OS/Arch:\tlinux/{}\n Context:\t{}\n",
        env!("CARGO_PKG_VERSION"),
        architecture(),
        cli.endpoint.context
    );
    if let Some(server) = server {
        text.push_str("\nServer:");
        if !server.platform.name.is_empty() {
            text.push(' ');
            text.push_str(&server.platform.name);
        }
        text.push('\n');
        let has_engine = server.components.iter().any(|c| c.name == "Engine");
        if !has_engine {
            text.push_str(&engine(server));
        }
        for component in &server.components {
            text.push_str(&format!(
                " {}:\n  Version:\t{}\n",
                component.name, component.version
            ));
            let details = component.details.iter().flatten();
            if component.name == "Engine" {
                text.push_str(&engine_details(&details.collect::<Vec<_>>()));
            } else {
                for (key, value) in details {
                    text.push_str(&format!("  {key}:\t{value}\n"));
                }
            }
        }
    }
    aligned_to(&text, 20, 1)
}

fn engine_details(details: &[(&String, &String)]) -> String {
    let get = |name: &str| {
        let found = details.iter().find(|(key, _)| *key == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    format!(
        "  API version:\t{} (minimum version {})\n  Go version:\t{}\n  Git commit:\t{}\n  Built:\t{}\n  OS/Arch:\t{}/{}\n  Experimental:\t{}\n",
        get("ApiVersion"),
        get("MinAPIVersion"),
        get("GoVersion"),
        get("GitCommit"),
        time::ansic(get("BuildTime")),
        get("Os"),
        get("Arch"),
        get("Experimental")
    )
}

/// The engine's part for engines that tell of no components.
fn engine(server: &VersionResponse) -> String {
    format!(
        " Engine:\n  Version:\t{}\n  API version:\t{} (minimum version {})\n  Go version:\t{}\n  Git commit:\t{}\n  Built:\t{}\n  OS/Arch:\t{}/{}\n  Experimental:\t{}\n",
        server.version,
        server.api_version,
        server.min_api_version,
        server.go_version,
        server.git_commit,
        time::ansic(&server.build_time),
        server.os,
        server.arch,
        server.experimental
    )
}
