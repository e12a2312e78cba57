//! The engine itself.

mod events;
mod info;

use std::collections::BTreeMap;

use berth_distribution::{Credentials, Secret};
use berth_spec::docker::system::{Component, DiskUsage, PlatformName};
use berth_spec::docker::{API_VERSION, AuthConfig, AuthResponse, MIN_API_VERSION, VersionResponse};
pub use events::{EventStream, EventsOptions, events};
pub use info::info;

use crate::crossing::blocking;
use crate::{Engine, Error, Filters, Result, container, image, volume};

/// Docker's name of the processor's architecture.
pub(crate) fn architecture() -> &'static str {
    berth_store::platform::architecture()
}

/// Which version this is.
pub async fn version(engine: &Engine) -> Result<VersionResponse> {
    let settings = &engine.0.settings;
    let kernel = rustix::system::uname();
    let kernel = kernel.release().to_string_lossy().into_owned();
    let details = BTreeMap::from([
        ("ApiVersion".to_owned(), API_VERSION.to_owned()),
        ("Arch".to_owned(), architecture().to_owned()),
        ("GitCommit".to_owned(), settings.commit.clone()),
        ("KernelVersion".to_owned(), kernel.clone()),
        ("MinAPIVersion".to_owned(), MIN_API_VERSION.to_owned()),
        ("Experimental".to_owned(), "false".to_owned()),
        ("Os".to_owned(), "linux".to_owned()),
    ]);
    Ok(VersionResponse {
        platform: PlatformName {
            name: "berth".to_owned(),
        },
        components: vec![Component {
            name: "Engine".to_owned(),
            version: settings.version.clone(),
            details: Some(details),
        }],
        version: settings.version.clone(),
        api_version: API_VERSION.to_owned(),
        min_api_version: MIN_API_VERSION.to_owned(),
        git_commit: settings.commit.clone(),
        go_version: String::new(),
        os: "linux".to_owned(),
        arch: architecture().to_owned(),
        kernel_version: kernel,
        experimental: false,
        build_time: String::new(),
    })
}

/// What takes how much of the disk; the build cache is filled in by who has one.
pub async fn df(engine: &Engine) -> Result<DiskUsage> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let store = engine.0.store.clone();
    let usage = blocking(move || store.usage()).await?;
    let images = image::ListOptions {
        all: true,
        shared_size: true,
        ..image::ListOptions::default()
    };
    let containers = container::ListOptions {
        all: true,
        size: true,
        filters: Filters::default(),
        limit: 0,
    };
    let mut containers = container::list(engine, containers).await?;
    for container in &mut containers {
        // With its log and what else is kept of it.
        let (store, id) = (engine.0.store.clone(), container.id.clone());
        let bytes = blocking(move || Ok::<_, Error>(store.snapshots().bytes(&id)?)).await?;
        container.size_rw = Some(signed(bytes));
    }
    Ok(DiskUsage {
        // With these the four sums are what the data root takes of the disk.
        layers_size: signed(usage.layers + usage.content + usage.top),
        images: image::list(engine, images).await?,
        containers,
        volumes: volume::with_usage(engine).await,
        build_cache: Vec::new(),
    })
}

/// Asks a registry whether it accepts credentials.
pub async fn auth(engine: &Engine, auth: AuthConfig) -> Result<AuthResponse> {
    let host = match auth.serveraddress.as_str() {
        "" | "https://index.docker.io/v1/" | "docker.io" => "docker.io",
        address => address
            .trim_start_matches("https://")
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap_or(address),
    };
    let credentials = Credentials {
        username: auth.username,
        password: Secret::new(auth.password),
        identity_token: Secret::new(auth.identitytoken),
        registry_token: Secret::new(auth.registrytoken),
    };
    if credentials.is_empty() {
        return Err(Error::invalid("no credentials provided"));
    }
    let outcome = engine.0.client.login(host, &credentials).await?;
    Ok(AuthResponse {
        status: "Login Succeeded".to_owned(),
        identity_token: outcome
            .identity_token
            .map(|t| t.expose().to_owned())
            .unwrap_or_default(),
    })
}
