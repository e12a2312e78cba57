//! The command line: global options, finding the verb, and what every verb is given.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use berth_client::{Client, Host, Options, TlsFiles};
use berth_store::tree::Extractor;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use tokio::sync::OnceCell;

use crate::autostart;
use crate::command::{self, Entry, Found};
use crate::config_file::ConfigFile;
use crate::endpoint::{self, Endpoint};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::usage;

/// The exit code for mistakes in the arguments.
const USAGE: u8 = 125;

/// Options before the verb.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalOptions {
    /// Location of client config files
    #[arg(long, value_name = "string")]
    pub config: Option<PathBuf>,
    /// Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with "docker context use")
    #[arg(short, long, value_name = "string")]
    pub context: Option<String>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Daemon socket to connect to
    #[arg(short = 'H', long, value_name = "list")]
    pub host: Vec<String>,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal")
    #[arg(short, long, value_name = "string", default_value = "info")]
    pub log_level: String,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    pub tls: bool,
    /// Trust certs signed only by this CA
    #[arg(long = "tlscacert", value_name = "string")]
    pub tls_ca_cert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long = "tlscert", value_name = "string")]
    pub tls_cert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long = "tlskey", value_name = "string")]
    pub tls_key: Option<PathBuf>,
    /// Use TLS and verify the remote
    #[arg(long = "tlsverify")]
    pub tls_verify: bool,
    /// Print version information and quit
    #[arg(short, long)]
    pub version: bool,
}

impl GlobalOptions {
    /// Where config.json is.
    pub fn config_dir(&self, environment: &Environment) -> PathBuf {
        let given = self.config.clone();
        given.unwrap_or_else(|| environment.config_dir.clone())
    }
}

#[derive(Parser)]
struct TopLevel {
    #[command(flatten)]
    options: GlobalOptions,
    #[arg(trailing_var_arg = true)]
    words: Vec<OsString>,
}

/// What every verb is given.
pub struct Cli {
    /// What this program is called in texts: `berth` or `docker`.
    pub program: &'static str,
    /// config.json.
    pub config: ConfigFile,
    /// What the environment says.
    pub environment: Environment,
    /// Where the engine is.
    pub endpoint: Endpoint,
    /// TLS as the flags and the environment say it, whatever the endpoint is.
    pub tls: Option<TlsFiles>,
    /// Whether `--debug` was given.
    pub debug: bool,
    /// What makes files out of archives, for `cp`.
    pub extractor: Extractor,
    client: OnceCell<Client>,
}

impl Cli {
    /// A client of the engine, which is started if it is berth's own and not there.
    pub async fn client(&self) -> Outcome<&Client> {
        self.client
            .get_or_try_init(|| async {
                if let Host::Unix(path) = &self.endpoint.host
                    && self.endpoint.on_demand
                    && !is_listening(path).await
                {
                    autostart::start(path)?;
                }
                self.connect()
            })
            .await
    }

    /// A client that starts no engine.
    pub fn connect(&self) -> Outcome<Client> {
        Ok(Client::new(Options {
            host: self.endpoint.host.clone(),
            tls: self.endpoint.tls.clone(),
            api_version: self.environment.api_version.clone(),
            headers: self.config.http_headers(),
            user_agent: self.user_agent(),
        })?)
    }

    /// What this program calls itself.
    pub fn user_agent(&self) -> String {
        format!("berth/{} (linux)", env!("CARGO_PKG_VERSION"))
    }

    /// `docker: …`, and where to read more: how `run` and its kin end a message.
    pub fn with_help(&self, message: impl std::fmt::Display, verb: &str) -> String {
        let program = self.program;
        format!("{program}: {message}\n\nRun '{program} {verb} --help' for more information")
    }

    /// The platform asked for, else the environment's.
    pub fn platform(&self, given: &Option<String>) -> String {
        let default = || self.environment.default_platform.clone();
        given.clone().or_else(default).unwrap_or_default()
    }
}

async fn is_listening(path: &std::path::Path) -> bool {
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => true,
        // Whoever may not connect learns that from the request.
        Err(e) => e.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// Runs one command line, without the program's own name, and ends the process.
pub fn main(program: &'static str, args: Vec<OsString>) -> ! {
    let mut code = 0;
    if let Err(failure) = dispatch(program, args) {
        if !failure.message.is_empty() {
            eprintln!("{}", failure.message);
        }
        code = failure.code;
    }
    // What could not be printed has no reader any more.
    let _ = std::io::stdout().flush();
    // Giving back memory that goes with the process would take as long as reading the command line.
    berth_sys::process::exit(code.into())
}

fn dispatch(program: &'static str, args: Vec<OsString>) -> Outcome {
    let Some(top) = parse_top_level(program, args)? else {
        return Ok(());
    };
    if top.options.version {
        println!("{}", version_line(program));
        return Ok(());
    }
    let words: Vec<String> = top
        .words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match command::find(&words) {
        Found::Verb(entry, path, used) => {
            let rest = top.words[used..].to_vec();
            run(program, entry, path, rest, &top.options)
        }
        Found::Help(words) => help(program, words),
        Found::Unknown(group) => Err(Failure::new(unknown(program, group, &words))),
    }
}

fn version_line(program: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if program == "docker" {
        format!(
            "Docker version {}, build berth-{version}",
            berth_spec::docker::COMPATIBLE_WITH
        )
    } else {
        format!("berth version {version}")
    }
}

fn parse_top_level(program: &'static str, args: Vec<OsString>) -> Outcome<Option<TopLevel>> {
    let mut command = top_level(program);
    match command.try_get_matches_from_mut(&args) {
        Ok(matches) => TopLevel::from_arg_matches(&matches)
            .map(Some)
            .map_err(|e| Failure::with_code(USAGE, e.to_string())),
        Err(error) => match usage::mistake(&error, &command, &args) {
            Some(text) => Err(Failure::with_code(
                USAGE,
                format!(
                    "{text}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
                ),
            )),
            None => {
                print!("{}", command::help::top_level(program, &command));
                Ok(None)
            }
        },
    }
}

fn top_level(program: &'static str) -> clap::Command {
    // `-h` asks for help here, and only here.
    usage::adapt(TopLevel::command().name(program)).mut_arg("help", |help| help.short('h'))
}

fn unknown(program: &str, group: Option<&str>, words: &[String]) -> String {
    match group {
        None => {
            let word = words.first().map_or("", String::as_str);
            format!(
                "{program}: unknown command: {program} {word}\n\nRun '{program} --help' for more information"
            )
        }
        Some(group) => {
            let word = words.get(1).map_or("", String::as_str);
            format!(
                "{program}: unknown command: {program} {group} {word}\n\nUsage:  {program} {group} COMMAND\n\nRun '{program} {group} --help' for more information"
            )
        }
    }
}

/// Help for a verb, a group or everything.
fn help(program: &'static str, words: &[String]) -> Outcome {
    match command::find(words) {
        Found::Verb(entry, path, _) => {
            print!("{}", command::help::verb(program, entry, path));
            Ok(())
        }
        Found::Help([]) => {
            print!("{}", command::help::top_level(program, &top_level(program)));
            Ok(())
        }
        Found::Help([group, ..]) => {
            print!("{}", command::help::group(program, group));
            Ok(())
        }
        Found::Unknown(_) => Err(Failure::new(format!(
            "unknown help topic: {}",
            words.join(" ")
        ))),
    }
}

fn run(
    program: &'static str,
    entry: &'static Entry,
    path: &str,
    args: Vec<OsString>,
    options: &GlobalOptions,
) -> Outcome {
    let mut parser = command::parser(entry);
    let matches = match parser.try_get_matches_from_mut(&args) {
        Ok(matches) => matches,
        Err(error) => {
            let Some(text) = usage::mistake(&error, &parser, &args) else {
                print!("{}", command::help::verb(program, entry, path));
                return Ok(());
            };
            let usage_line = command::usage_line(program, entry, path);
            return Err(Failure::with_code(
                USAGE,
                format!(
                    "{text}\n\nUsage:  {usage_line}\n\nRun '{program} {path} --help' for more information"
                ),
            ));
        }
    };
    command::check_count(program, entry, path, &matches)?;
    let environment = Environment::read();
    let config = match ConfigFile::load(&options.config_dir(&environment)) {
        Ok(config) => config,
        Err(message) => {
            eprintln!("WARNING: Error loading config file: {message}");
            ConfigFile::default()
        }
    };
    let endpoint = match Endpoint::resolve(options, &environment, &config) {
        // What mends a context must not need it.
        Err(_) if path.starts_with("context ") => Endpoint::nowhere_else(options, &environment)?,
        other => other?,
    };
    let tls = endpoint::tls_files(options, &environment);
    let cli = Cli {
        program,
        config,
        environment,
        endpoint,
        tls,
        debug: options.debug,
        // Forked before there is an executor, and only for who needs it.
        extractor: match path.rsplit(' ').next() {
            Some("cp") => Extractor::fork().map_err(|e| Failure::new(e.to_string()))?,
            _ => Extractor::on_thread(),
        },
        client: OnceCell::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on((entry.run)(matches, cli));
    // A reader of standard input may be blocked in it; it must not hold the end up.
    runtime.shutdown_background();
    outcome
}
