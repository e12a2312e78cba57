//! `context`: named places where engines are.

use gotmpl::Value;
use serde_json::json;

use super::inspect;
use super::ps::FORMAT_HELP;
use super::{Takes, Verb};
use crate::cli::Cli;
use crate::context_store::{self, Context, ContextStore, DEFAULT, Endpoint, Metadata, TLS_FILES};
use crate::endpoint::DEFAULT_SOCKET;
use crate::failure::{Failure, Outcome, why};
use crate::format::rows::{self, Field, Row};
use crate::option::csv;

const TABLE: &str =
    "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
const FIELDS: [Field; 5] = [
    ("Current", ""),
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
];
const OVERRIDES: &str =
    "Warning: DOCKER_HOST environment variable overrides the active context. To use";
const INSTEAD: &str =
    "either set the global --context flag, or unset DOCKER_HOST environment variable.";

fn store(cli: &Cli) -> ContextStore {
    ContextStore::new(cli.config.dir())
}

/// The context that stands in no file.
fn default_context(cli: &Cli) -> Context {
    let mut context = Context {
        name: DEFAULT.to_owned(),
        ..Context::default()
    };
    let host = if cli.endpoint.context == DEFAULT {
        cli.endpoint.host.to_string()
    } else {
        let given = cli.environment.host.clone();
        given.unwrap_or_else(|| format!("unix://{DEFAULT_SOCKET}"))
    };
    context.set_docker(Endpoint {
        host,
        skip_tls_verify: false,
    });
    context
}

fn get(cli: &Cli, name: &str) -> Result<Context, String> {
    if name == DEFAULT {
        Ok(default_context(cli))
    } else {
        store(cli).get(name)
    }
}

/// Letters, digits and `_.+-`, two of them or more, the first a letter or digit.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("context name cannot be empty".to_owned());
    }
    if name == DEFAULT {
        return Err(format!("{name:?} is a reserved context name"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric();
    let rest = |c: char| plain(c) || "_.+-".contains(c);
    if name.len() >= 2 && name.starts_with(plain) && name.chars().all(rest) {
        Ok(())
    } else {
        Err(format!(
            "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
        ))
    }
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for List {
    const ARGUMENTS: &'static str = "[OPTIONS]";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        let mut contexts = store(cli).list();
        contexts.push(Context {
            metadata: Metadata::described("Current DOCKER_HOST based configuration"),
            ..default_context(cli)
        });
        contexts.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = contexts.iter().map(|context| row(cli, context)).collect();
        let format = match self.format.as_deref() {
            _ if self.quiet => "{{.Name}}",
            None | Some("" | "table") => TABLE,
            Some(other) => other,
        };
        rows::print(format, &FIELDS, rows)?;
        if cli.environment.host.is_some() && !self.quiet {
            eprintln!("{OVERRIDES} a context, {INSTEAD}");
        }
        Ok(())
    }
}

fn row(cli: &Cli, context: &Context) -> Row {
    let mut row = Row::default();
    let host = context.docker().map_or("", |docker| docker.host.as_str());
    row.set_value("Current", Value::Bool(context.name == cli.endpoint.context))
        .set("Name", context.name.clone())
        .set("Description", context.metadata.description.clone())
        .set("DockerEndpoint", host)
        .set("Error", "");
    row
}

#[derive(Debug, clap::Args)]
pub struct Show {
    words: Vec<String>,
}

impl Verb for Show {
    const ARGUMENTS: &'static str = "";
    const TAKES: Takes = Takes::Nothing;

    async fn run(self, cli: &Cli) -> Outcome {
        println!("{}", cli.endpoint.context);
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub struct Use {
    words: Vec<String>,
}

impl Verb for Use {
    const ARGUMENTS: &'static str = "CONTEXT";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.words[0];
        let current = if name == DEFAULT {
            None
        } else {
            check_name(name)?;
            store(cli).get(name)?;
            Some(name.as_str())
        };
        let mut config = cli.config.clone();
        config.set_current_context(current)?;
        println!("{name}");
        eprintln!("Current context is now {name:?}");
        if current.is_some() && cli.environment.host.is_some() {
            eprintln!("{OVERRIDES} {name:?}, {INSTEAD}");
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub struct Inspect {
    #[arg(short, long, value_name = "string", help = inspect::FORMAT_HELP)]
    format: Option<String>,
    words: Vec<String>,
}

impl Verb for Inspect {
    const ARGUMENTS: &'static str = "[OPTIONS] [CONTEXT] [CONTEXT...]";
    const TAKES: Takes = Takes::AtLeast(0);

    async fn run(self, cli: &Cli) -> Outcome {
        let current = [cli.endpoint.context.clone()];
        let names = if self.words.is_empty() {
            &current[..]
        } else {
            &self.words
        };
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for name in names {
            match get(cli, name) {
                Ok(context) => found.push(description(cli, &context)?),
                Err(e) => failed.push(e),
            }
        }
        inspect::print(found, failed, self.format.as_deref())
    }
}

/// A context as JSON, members in Docker's order.
fn description(cli: &Cli, context: &Context) -> Outcome<String> {
    let store = store(cli);
    let files = store.tls_files(&context.name);
    let (meta, tls) = if context.name == DEFAULT {
        ("<IN MEMORY>".to_owned(), "<IN MEMORY>".to_owned())
    } else {
        let path = |path: std::path::PathBuf| path.display().to_string();
        (
            path(store.meta_dir(&context.name)),
            path(store.tls_dir(&context.name)),
        )
    };
    let written = |e: serde_json::Error| Failure::new(e.to_string());
    let own = serde_json::to_string(context).map_err(written)?;
    let material = if files.is_empty() {
        json!({})
    } else {
        json!({ "docker": files })
    };
    let (meta, tls) = (json!(meta).to_string(), json!(tls).to_string());
    let storage = format!("{{\"MetadataPath\":{meta},\"TLSPath\":{tls}}}");
    let storage = crate::format::json::escape_html(&storage);
    let own = own.strip_suffix('}').unwrap_or(&own);
    Ok(format!(
        "{own},\"TLSMaterial\":{material},\"Storage\":{storage}}}"
    ))
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// Description of the context
    #[arg(long, value_name = "string", default_value = "")]
    description: String,
    /// set the docker endpoint (default [])
    #[arg(long, value_name = "stringToString")]
    docker: Vec<String>,
    /// create context from a named context
    #[arg(long, value_name = "string", default_value = "")]
    from: String,
    words: Vec<String>,
}

impl Verb for Create {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTEXT";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.words[0];
        check_name(name)?;
        let store = store(cli);
        if store.has(name) {
            return Err(Failure::new(format!("context {name:?} already exists")));
        }
        let given = !self.docker.is_empty();
        if given && !self.from.is_empty() {
            return Err(Failure::new("cannot use --docker flag when --from is set"));
        }
        let mut context = Context {
            name: name.clone(),
            ..Context::default()
        };
        let files = if given {
            let made = EndpointOptions::of(&self.docker).and_then(|options| options.make(cli));
            let (endpoint, files) =
                made.map_err(|e| format!("unable to create docker endpoint config: {e}"))?;
            context.set_docker(endpoint);
            files
        } else {
            let current = cli.endpoint.context.clone();
            let from = Some(self.from.clone()).filter(|from| !from.is_empty());
            let from = get(cli, &from.unwrap_or(current))?;
            let files = tls_of(&store, &from.name)?;
            context.endpoints = from.endpoints;
            context.metadata = match from.name == DEFAULT {
                true => Metadata::described("Current DOCKER_HOST based configuration"),
                false => from.metadata,
            };
            files
        };
        if !self.description.is_empty() {
            context.metadata.description.clone_from(&self.description);
        }
        save(&store, &context, &files)?;
        println!("{name}");
        eprintln!("Successfully created context {name:?}");
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub struct Update {
    /// Description of the context
    #[arg(long, value_name = "string", default_value = "")]
    description: String,
    /// set the docker endpoint (default [])
    #[arg(long, value_name = "stringToString")]
    docker: Vec<String>,
    words: Vec<String>,
}

impl Verb for Update {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTEXT";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.words[0];
        check_name(name)?;
        let store = store(cli);
        let mut context = store.get(name)?;
        let mut files = tls_of(&store, name)?;
        if !self.description.is_empty() {
            context.metadata.description.clone_from(&self.description);
        }
        if !self.docker.is_empty() {
            let made = EndpointOptions::of(&self.docker).and_then(|options| options.make(cli));
            let (endpoint, own) =
                made.map_err(|e| format!("unable to create docker endpoint config: {e}"))?;
            context.set_docker(endpoint);
            files = own;
        }
        save(&store, &context, &files)?;
        println!("{name}");
        eprintln!("Successfully updated context {name:?}");
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Force the removal of a context in use
    #[arg(short, long)]
    force: bool,
    words: Vec<String>,
}

impl Verb for Remove {
    const ARGUMENTS: &'static str = "CONTEXT [CONTEXT...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let mut failed = Vec::new();
        for name in &self.words {
            match self.remove(cli, name) {
                Ok(()) => println!("{name}"),
                Err(e) => failed.push(e),
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failed.join("\n")))
        }
    }
}

impl Remove {
    fn remove(&self, cli: &Cli, name: &str) -> Result<(), String> {
        let store = store(cli);
        if name == DEFAULT {
            return Err(format!("context {DEFAULT:?} cannot be removed"));
        }
        if !store.has(name) {
            return match self.force {
                true => Ok(()),
                false => Err(format!("context {name:?} does not exist")),
            };
        }
        if cli.endpoint.context == name {
            if !self.force {
                return Err(format!(
                    "context {name:?} is in use, set -f flag to force remove"
                ));
            }
            let mut config = cli.config.clone();
            config
                .set_current_context(None)
                .map_err(|e| e.to_string())?;
        }
        let failed = |e| format!("failed to remove context {name:?}: {}", why(&e));
        store.remove(name).map_err(failed)
    }
}

type TlsFile = (&'static str, Vec<u8>);

fn tls_of(store: &ContextStore, name: &str) -> Result<Vec<TlsFile>, String> {
    let files = TLS_FILES
        .into_iter()
        .filter_map(|file| Some((file, store.tls_file(name, file)?)));
    files
        .map(|(file, path)| Ok((file, context_store::read_tls(&path)?)))
        .collect()
}

fn save(store: &ContextStore, context: &Context, files: &[TlsFile]) -> Outcome {
    store.save(context)?;
    Ok(store.save_tls(&context.name, files)?)
}

/// What `--docker` says: `host=…,ca=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct EndpointOptions {
    from: String,
    host: String,
    /// In the order of [`TLS_FILES`].
    tls: [String; 3],
    skip_tls_verify: bool,
}

impl EndpointOptions {
    /// All that was given, the last of a key.
    fn of(given: &[String]) -> Result<Self, String> {
        let mut options = EndpointOptions::default();
        for text in given {
            for field in csv::fields(text)? {
                options.set(&field)?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field} must be formatted as key=value"))?;
        let place = match key {
            "from" => &mut self.from,
            "host" => &mut self.host,
            "ca" => &mut self.tls[0],
            "cert" => &mut self.tls[1],
            "key" => &mut self.tls[2],
            "skip-tls-verify" => {
                self.skip_tls_verify = crate::option::value::go_bool(value)?;
                return Ok(());
            }
            _ => return Err(format!("unrecognized config key: {key}")),
        };
        value.clone_into(place);
        Ok(())
    }

    fn make(&self, cli: &Cli) -> Result<(Endpoint, Vec<TlsFile>), String> {
        if !self.from.is_empty() {
            let from = get(cli, &self.from)?;
            let endpoint = from.docker().cloned().unwrap_or_default();
            return Ok((endpoint, tls_of(&store(cli), &from.name)?));
        }
        let files = TLS_FILES
            .into_iter()
            .zip(&self.tls)
            .filter(|(_, path)| !path.is_empty())
            .map(|(file, path)| Ok((file, context_store::read_tls(path.as_ref())?)))
            .collect::<Result<_, String>>()?;
        let endpoint = Endpoint {
            host: self.host.clone(),
            skip_tls_verify: self.skip_tls_verify,
        };
        Ok((endpoint, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["aa", "a-b", "A.b+c_d", "12"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "-a", "a b", "a/b", "ä1", "default"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints() {
        let of = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|s| (*s).to_owned()).collect();
            EndpointOptions::of(&given)
        };
        let options = of(&[
            "host=tcp://x:1,ca=/a,skip-tls-verify=true",
            "host=unix:///y",
        ]);
        let options = options.expect("options");
        assert_eq!(options.host, "unix:///y");
        assert_eq!(options.tls, ["/a", "", ""]);
        assert!(options.skip_tls_verify);
        for (bad, says) in [
            ("foo=x", "unrecognized config key: foo"),
            ("host", "host must be formatted as key=value"),
        ] {
            assert_eq!(of(&[bad]), Err(says.to_owned()));
        }
    }
}
