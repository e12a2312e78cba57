//! `inspect`, of anything or of one kind: the engine's JSON as it is, or through a template.

use berth_client::{Client, Error};

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::template::{self, Data};
use crate::format::tree::Tree;
use crate::format::{json, write_stdout};

/// Help for `--format` of single objects.
pub const FORMAT_HELP: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

const TYPES: [&str; 10] = [
    "config",
    "container",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
    "volume",
];

/// Kinds of object, in the order they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

const KINDS: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Volume => "volume",
        }
    }

    async fn fetch(self, client: &Client, name: &str, size: bool) -> Result<String, Error> {
        let path = match self {
            Kind::Container => format!("/containers/{name}/json"),
            Kind::Image => format!("/images/{name}/json"),
            Kind::Network => format!("/networks/{name}"),
            Kind::Volume => format!("/volumes/{name}"),
        };
        let size = size && self == Kind::Container;
        let bytes = client.get(path).flag("size", size).bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

#[derive(Debug, clap::Args)]
pub struct Inspect {
    #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    words: Vec<String>,
}

impl Verb for Inspect {
    const ARGUMENTS: &'static str = "[OPTIONS] NAME|ID [NAME|ID...]";
    const TAKES: Takes = Takes::AtLeast(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let list = TYPES.join("\", \"");
        let kinds = match self.kind.as_deref() {
            None => KINDS.to_vec(),
            Some("") => {
                return Err(Failure::new(format!(
                    "type is empty: must be one of \"{list}\""
                )));
            }
            Some(name) if !TYPES.contains(&name) => {
                return Err(Failure::new(format!(
                    "unknown type: {name:?}: must be one of \"{list}\""
                )));
            }
            Some(name) => KINDS.into_iter().filter(|k| k.name() == name).collect(),
        };
        inspect(cli, &self.words, &kinds, self.format.as_deref(), self.size).await
    }
}

macro_rules! inspect_one_kind {
    ($($(#[$meta:meta])* $name:ident $kind:ident $arguments:literal { $($extra:tt)* } $size:expr;)*) => {$(
        #[derive(Debug, clap::Args)]
        $(#[$meta])*
        pub struct $name {
            #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
            format: Option<String>,
            $($extra)*
            words: Vec<String>,
        }

        impl Verb for $name {
            const ARGUMENTS: &'static str = $arguments;
            const TAKES: Takes = Takes::AtLeast(1);

            async fn run(self, cli: &Cli) -> Outcome {
                let size: fn(&Self) -> bool = $size;
                let size = size(&self);
                inspect(cli, &self.words, &[Kind::$kind], self.format.as_deref(), size).await
            }
        }
    )*};
}

inspect_one_kind! {
    ContainerInspect Container "[OPTIONS] CONTAINER [CONTAINER...]" {
        /// Display total file sizes
        #[arg(short, long)]
        size: bool,
    } |verb| verb.size;
    ImageInspect Image "[OPTIONS] IMAGE [IMAGE...]" {} |_| false;
    NetworkInspect Network "[OPTIONS] NETWORK [NETWORK...]" {
        /// Verbose output for diagnostics
        #[arg(short, long)]
        verbose: bool,
    } |verb| { let _ = verb.verbose; false };
    VolumeInspect Volume "[OPTIONS] VOLUME [VOLUME...]" {} |_| false;
}

async fn find(client: &Client, name: &str, kinds: &[Kind], size: bool) -> Outcome<String> {
    for kind in kinds {
        match kind.fetch(client, name, size).await {
            Ok(text) => {
                if size && *kind != Kind::Container {
                    eprintln!("WARNING: --size ignored for {}", kind.name());
                }
                return Ok(text);
            }
            Err(e) if kinds.len() > 1 && skips(&e) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

/// Whether the next kind is worth a try.
fn skips(error: &Error) -> bool {
    let text = error.message();
    error.is_not_found()
        || text.contains("not supported")
        || text.contains("invalid reference format")
}

async fn inspect(
    cli: &Cli,
    names: &[String],
    kinds: &[Kind],
    format: Option<&str>,
    size: bool,
) -> Outcome {
    let template = format.filter(|f| !f.is_empty() && *f != "json");
    if let Some(template) = template {
        // A mistake in the template is told before anything is asked.
        template::parse(template, Data::default(), true)
            .map_err(|e| Failure::with_code(64, format!("template parsing error: {e}")))?;
    }
    let client = cli.client().await?;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in names {
        match find(client, name, kinds, size).await {
            Ok(text) => found.push(text),
            Err(e) => failed.push(e.message),
        }
    }
    print(found, failed, format)
}

/// Prints JSON texts as `format` says, then fails with what failed, if anything did.
pub fn print(texts: Vec<String>, mut failed: Vec<String>, format: Option<&str>) -> Outcome {
    let template = format.filter(|f| !f.is_empty() && *f != "json");
    let mut found = Vec::new();
    for text in texts {
        match template {
            None => found.push(text),
            Some(template) => match execute(template, &text) {
                Ok(line) => found.push(format!("{line}\n")),
                Err(e) => failed.push(format!("template parsing error: {e}")),
            },
        }
    }
    let text = match (template, format) {
        (Some(_), _) if found.is_empty() => "\n".to_owned(),
        (Some(_), _) => found.concat(),
        _ if found.is_empty() => "[]\n".to_owned(),
        (None, Some("json")) => {
            let trees: Result<Vec<Tree>, _> = found
                .iter()
                .map(|text| serde_json::from_str(text))
                .collect();
            let trees = trees.map_err(|e| Failure::new(e.to_string()))?;
            let text = serde_json::to_string(&trees).map_err(|e| Failure::new(e.to_string()))?;
            format!("{text}\n")
        }
        _ => {
            let list = format!("[{}]", found.join(","));
            format!("{}\n", json::indent(&list, "", "    "))
        }
    };
    write_stdout(text.as_bytes())?;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failed.join("\n")))
    }
}

fn execute(template: &str, text: &str) -> Result<String, String> {
    let tree: Tree = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut data = Data::with_go_names();
    let value = data.value(&tree);
    template::parse(template, data, true)?.execute(&value)
}
