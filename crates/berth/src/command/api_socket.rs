//! `--use-api-socket`: the engine's socket and the user's logins inside a container.

use std::fs;
use std::path::Path;

use berth_client::{Body, Client, Host};
use berth_spec::docker::ContainerCreateBody;
use berth_spec::docker::config::{BindOptions, Mount};
use berth_store::tree::{self, PackOptions};
use berth_sys::root::RootFd;
use http::Method;
use serde_json::json;

use crate::cli::Cli;
use crate::failure::{Failure, Outcome};

/// Where the logins are inside.
const CONFIG: &str = "run/secrets/docker/config.json";
const VARIABLE: &str = "DOCKER_CONFIG=";

/// Adds the socket to a container to be.
pub fn mount(cli: &Cli, body: &mut ContainerCreateBody) -> Outcome {
    let Host::Unix(socket) = &cli.endpoint.host else {
        return Err(Failure::new(format!(
            "flag --use-api-socket can only be used with unix sockets: docker endpoint {} incompatible",
            cli.endpoint.host
        )));
    };
    let mount = Mount {
        kind: "bind".to_owned(),
        source: socket.display().to_string(),
        target: "/var/run/docker.sock".to_owned(),
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    };
    body.host_config.mounts.get_or_insert_default().push(mount);
    let env = body.config.env.get_or_insert_default();
    // Who sets the variable brings logins of their own.
    let own = env.iter().any(|pair| pair.starts_with(VARIABLE));
    if !own && !cli.config.all_credentials().is_empty() {
        env.push(format!("{VARIABLE}/run/secrets/docker"));
    }
    Ok(())
}

/// Copies the logins into the container that was made.
pub async fn give_credentials(
    cli: &Cli,
    client: &Client,
    id: &str,
    body: &ContainerCreateBody,
) -> Outcome {
    let ours = format!("{VARIABLE}/run/secrets/docker");
    if !body.config.env.iter().flatten().any(|pair| *pair == ours) {
        return Ok(());
    }
    let mut auths = serde_json::Map::new();
    for (server, auth) in cli.config.all_credentials() {
        let value = serde_json::to_value(&auth).map_err(|e| Failure::new(e.to_string()))?;
        auths.insert(server, value);
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join(CONFIG);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&file, json!({ "auths": auths }).to_string())?;
    let mut archive = Vec::new();
    let options = PackOptions {
        name: Some(""),
        owner: Some((0, 0)),
        ..PackOptions::default()
    };
    tree::pack(
        &RootFd::open(dir.path())?,
        Path::new("."),
        &mut archive,
        &options,
    )
    .map_err(|e| Failure::new(e.to_string()))?;
    client
        .request(Method::PUT, format!("/containers/{id}/archive"))
        .query("path", "/")
        .body("application/x-tar", Body::Bytes(archive.into()))
        .done()
        .await
        .map_err(|e| {
            Failure::new(format!(
                "injecting docker config.json into container failed: {e}"
            ))
        })
}
