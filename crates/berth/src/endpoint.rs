//! Where the engine is: `--host`, `--context`, the environment, config.json's current
//! context, and berth's own socket where nobody says anything.

use std::path::PathBuf;

use berth_client::{Host, TlsFiles};

use crate::cli::GlobalOptions;
use crate::config_file::ConfigFile;
use crate::context_store::{ContextStore, DEFAULT};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};

/// Where an engine listens that nobody configured.
pub const DEFAULT_SOCKET: &str = "/run/berth/berth.sock";

/// An engine's place.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The context's name; `default` where none is in use.
    pub context: String,
    /// The address.
    pub host: Host,
    /// TLS, if it is spoken.
    pub tls: Option<TlsFiles>,
    /// Whether this is berth's own socket, where an engine is started on demand.
    pub on_demand: bool,
}

impl Endpoint {
    /// Decides; Docker's order of precedence.
    pub fn resolve(
        options: &GlobalOptions,
        environment: &Environment,
        config: &ConfigFile,
    ) -> Outcome<Self> {
        if options.context.is_some() && !options.host.is_empty() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --host and --context",
            ));
        }
        if options.host.len() > 1 {
            return Err(Failure::new("Specify only one -H"));
        }
        if let Some(name) = &options.context {
            return by_context(name, environment, options, config);
        }
        let host = options.host.first().or(environment.host.as_ref());
        if let Some(host) = host {
            return from_host(host, options, environment);
        }
        if let Some(name) = &environment.context {
            return by_context(name, environment, options, config);
        }
        match config.current_context() {
            Some(name) if ContextStore::new(config.dir()).has(name) => {
                by_context(name, environment, options, config)
            }
            _ => default(options, environment),
        }
    }

    /// Berth's own socket, whatever anybody says.
    pub fn nowhere_else(options: &GlobalOptions, environment: &Environment) -> Outcome<Self> {
        default(options, environment)
    }
}

fn default(options: &GlobalOptions, environment: &Environment) -> Outcome<Endpoint> {
    let mut endpoint = from_host(&format!("unix://{DEFAULT_SOCKET}"), options, environment)?;
    endpoint.on_demand = true;
    Ok(endpoint)
}

fn from_host(host: &str, options: &GlobalOptions, environment: &Environment) -> Outcome<Endpoint> {
    let tls = tls_files(options, environment);
    let host = if host.contains("://") {
        host.to_owned()
    } else if host.starts_with('/') {
        format!("unix://{host}")
    } else {
        format!("tcp://{host}")
    };
    let host = Host::parse(&host, tls.is_some()).map_err(|e| Failure::new(e.to_string()))?;
    let tls = tls.filter(|_| matches!(host, Host::Tcp { .. }));
    Ok(Endpoint {
        context: DEFAULT.to_owned(),
        host,
        tls,
        on_demand: false,
    })
}

/// TLS as the flags and the environment say it.
pub fn tls_files(options: &GlobalOptions, environment: &Environment) -> Option<TlsFiles> {
    let verify = options.tls_verify || environment.tls_verify;
    if !verify && !options.tls && !environment.tls {
        return None;
    }
    let dir = environment
        .cert_path
        .clone()
        .unwrap_or_else(|| options.config_dir(environment));
    let given_or_there = |given: &Option<PathBuf>, name: &str| {
        given.clone().or_else(|| {
            let path = dir.join(name);
            path.exists().then_some(path)
        })
    };
    Some(TlsFiles {
        // Checking against nothing would be no check: this one must be there.
        ca: match &options.tls_ca_cert {
            None if verify => Some(dir.join("ca.pem")),
            given => given_or_there(given, "ca.pem"),
        },
        cert: given_or_there(&options.tls_cert, "cert.pem"),
        key: given_or_there(&options.tls_key, "key.pem"),
        verify,
    })
}

fn by_context(
    name: &str,
    environment: &Environment,
    options: &GlobalOptions,
    config: &ConfigFile,
) -> Outcome<Endpoint> {
    if name == DEFAULT {
        return match &environment.host {
            Some(host) => from_host(host, options, environment),
            None => default(options, environment),
        };
    }
    let store = ContextStore::new(config.dir());
    let context = store
        .get(name)
        .map_err(|e| format!("Failed to initialize: unable to resolve docker endpoint: {e}"))?;
    let docker = context
        .docker()
        .ok_or_else(|| Failure::new(format!("context {name:?}: cannot find docker endpoint")))?;
    let files = TlsFiles {
        ca: store.tls_file(name, "ca.pem"),
        cert: store.tls_file(name, "cert.pem"),
        key: store.tls_file(name, "key.pem"),
        verify: !docker.skip_tls_verify,
    };
    let tls = files.ca.is_some() || files.cert.is_some() || docker.skip_tls_verify;
    let host = Host::parse(&docker.host, tls).map_err(|e| Failure::new(e.to_string()))?;
    Ok(Endpoint {
        context: name.to_owned(),
        host,
        tls: tls.then_some(files),
        on_demand: docker.host == format!("unix://{DEFAULT_SOCKET}"),
    })
}
