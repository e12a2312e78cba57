//! The verbs, one file each, and the table that finds them.

pub mod help;

mod attach;
mod build;
mod commit;
mod completion;
mod context;
mod copy;
mod cp;
mod create;
mod df;
mod dial_stdio;
mod diff;
mod events;
mod exec;
mod export;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod network;
mod pause;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod signature;
mod start;
mod stats;
mod stop;
mod tag;
mod top;
mod unpause;
mod update;
mod verify;
mod version;
mod volume;
mod wait;

mod api_socket;
mod container_options;
mod each;
mod interactive;

use std::future::Future;
use std::pin::Pin;

use clap::{ArgMatches, Args, Command};

use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::usage;

/// How many words a verb takes after its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// So many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// From the first to the second.
    Between(usize, usize),
}

/// A verb: its flags are its fields, its words are the field `words`.
pub trait Verb: Args + 'static {
    /// What stands after the verb in its usage line.
    const ARGUMENTS: &'static str;
    /// How many words it takes.
    const TAKES: Takes;
    /// Whether the first word ends the options, as `run` has it.
    const FIRST_WORD_ENDS_OPTIONS: bool = false;

    /// Does it.
    fn run(self, cli: &Cli) -> impl Future<Output = Outcome>;
}

type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// A verb in the table.
pub struct Entry {
    /// Its names, `container run` before `run`.
    pub paths: &'static [&'static str],
    /// One line of help.
    pub about: &'static str,
    /// What its own help says instead.
    pub long: &'static str,
    /// What stands after the verb in its usage line.
    pub arguments: &'static str,
    /// Place among the common commands of the top level; 0 for none.
    pub common: u8,
    /// Whether help leaves it out.
    pub hidden: bool,
    takes: Takes,
    first_ends: bool,
    build: fn(Command) -> Command,
    /// Runs it with what was parsed.
    pub run: fn(ArgMatches, Cli) -> Running,
}

const fn verb<V: Verb>(paths: &'static [&'static str], about: &'static str) -> Entry {
    Entry {
        paths,
        about,
        long: about,
        arguments: V::ARGUMENTS,
        common: 0,
        hidden: false,
        takes: V::TAKES,
        first_ends: V::FIRST_WORD_ENDS_OPTIONS,
        build: V::augment_args,
        run: run::<V>,
    }
}

const fn common(place: u8, mut entry: Entry) -> Entry {
    entry.common = place;
    entry
}

const fn long(text: &'static str, mut entry: Entry) -> Entry {
    entry.long = text;
    entry
}

const fn hidden(mut entry: Entry) -> Entry {
    entry.hidden = true;
    entry
}

fn run<V: Verb>(matches: ArgMatches, cli: Cli) -> Running {
    Box::pin(async move {
        let verb = V::from_arg_matches(&matches).map_err(|e| Failure::new(e.to_string()))?;
        verb.run(&cli).await
    })
}

/// The groups of the top level.
pub const GROUPS: [(&str, &str); 7] = [
    ("builder", "Manage builds"),
    ("container", "Manage containers"),
    ("context", "Manage contexts"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("system", "Manage Docker"),
    ("volume", "Manage volumes"),
];

/// All verbs. One uniform table.
pub static ENTRIES: &[Entry] = &[
    common(
        1,
        verb::<run::Run>(
            &["container run", "run"],
            "Create and run a new container from an image",
        ),
    ),
    common(
        2,
        verb::<exec::Exec>(
            &["container exec", "exec"],
            "Execute a command in a running container",
        ),
    ),
    common(
        3,
        verb::<ps::Ps>(
            &["container ls", "container list", "container ps", "ps"],
            "List containers",
        ),
    ),
    common(
        4,
        verb::<build::Build>(
            &["image build", "build", "builder build"],
            "Build an image from a Dockerfile",
        ),
    ),
    common(
        5,
        verb::<pull::Pull>(&["image pull", "pull"], "Download an image from a registry"),
    ),
    common(
        6,
        verb::<push::Push>(&["image push", "push"], "Upload an image to a registry"),
    ),
    common(
        7,
        verb::<images::Images>(&["image ls", "image list", "images"], "List images"),
    ),
    common(
        8,
        long(
            "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
            verb::<login::Login>(&["login"], "Authenticate to a registry"),
        ),
    ),
    common(
        9,
        long(
            "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
            verb::<logout::Logout>(&["logout"], "Log out from a registry"),
        ),
    ),
    common(
        10,
        verb::<search::Search>(&["search"], "Search Docker Hub for images"),
    ),
    common(
        11,
        verb::<version::Version>(&["version"], "Show the Docker version information"),
    ),
    common(
        12,
        verb::<info::Info>(&["system info", "info"], "Display system-wide information"),
    ),
    verb::<attach::Attach>(
        &["container attach", "attach"],
        "Attach local standard input, output, and error streams to a running container",
    ),
    verb::<commit::Commit>(
        &["container commit", "commit"],
        "Create a new image from a container's changes",
    ),
    verb::<completion::Completion>(
        &["completion"],
        "Print a script that completes commands in a shell",
    ),
    long(
        "Copy files/folders between a container and the local filesystem\n\nUse '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
        verb::<cp::Copy>(
            &["container cp", "cp"],
            "Copy files/folders between a container and the local filesystem",
        ),
    ),
    verb::<create::Create>(&["container create", "create"], "Create a new container"),
    verb::<diff::Diff>(
        &["container diff", "diff"],
        "Inspect changes to files or directories on a container's filesystem",
    ),
    verb::<events::Events>(
        &["system events", "events"],
        "Get real time events from the server",
    ),
    verb::<export::Export>(
        &["container export", "export"],
        "Export a container's filesystem as a tar archive",
    ),
    verb::<history::History>(
        &["image history", "history"],
        "Show the history of an image",
    ),
    verb::<import::Import>(
        &["image import", "import"],
        "Import the contents from a tarball to create a filesystem image",
    ),
    verb::<inspect::Inspect>(
        &["inspect"],
        "Return low-level information on Docker objects",
    ),
    verb::<inspect::ContainerInspect>(
        &["container inspect"],
        "Display detailed information on one or more containers",
    ),
    verb::<inspect::ImageInspect>(
        &["image inspect"],
        "Display detailed information on one or more images",
    ),
    verb::<inspect::NetworkInspect>(
        &["network inspect"],
        "Display detailed information on one or more networks",
    ),
    verb::<inspect::VolumeInspect>(
        &["volume inspect"],
        "Display detailed information on one or more volumes",
    ),
    verb::<kill::Kill>(
        &["container kill", "kill"],
        "Kill one or more running containers",
    ),
    verb::<load::Load>(
        &["image load", "load"],
        "Load an image from a tar archive or STDIN",
    ),
    verb::<logs::Logs>(&["container logs", "logs"], "Fetch the logs of a container"),
    verb::<network::Create>(&["network create"], "Create a network"),
    verb::<network::List>(&["network ls", "network list"], "List networks"),
    verb::<network::Remove>(
        &["network rm", "network remove"],
        "Remove one or more networks",
    ),
    verb::<network::Connect>(&["network connect"], "Connect a container to a network"),
    verb::<network::Disconnect>(
        &["network disconnect"],
        "Disconnect a container from a network",
    ),
    verb::<pause::Pause>(
        &["container pause", "pause"],
        "Pause all processes within one or more containers",
    ),
    verb::<port::Port>(
        &["container port", "port"],
        "List port mappings or a specific mapping for the container",
    ),
    verb::<context::Create>(&["context create"], "Create a context"),
    verb::<context::Inspect>(
        &["context inspect"],
        "Display detailed information on one or more contexts",
    ),
    verb::<context::List>(&["context ls", "context list"], "List contexts"),
    verb::<context::Remove>(
        &["context rm", "context remove"],
        "Remove one or more contexts",
    ),
    verb::<context::Show>(&["context show"], "Print the name of the current context"),
    verb::<context::Update>(&["context update"], "Update a context"),
    verb::<context::Use>(&["context use"], "Set the current docker context"),
    verb::<prune::Builder>(&["builder prune"], "Remove build cache"),
    verb::<prune::Containers>(&["container prune"], "Remove all stopped containers"),
    verb::<prune::Images>(&["image prune"], "Remove unused images"),
    verb::<prune::Networks>(&["network prune"], "Remove all unused networks"),
    verb::<prune::System>(&["system prune"], "Remove unused data"),
    verb::<prune::Volumes>(&["volume prune"], "Remove unused local volumes"),
    verb::<rename::Rename>(&["container rename", "rename"], "Rename a container"),
    verb::<restart::Restart>(
        &["container restart", "restart"],
        "Restart one or more containers",
    ),
    verb::<rm::Remove>(
        &["container rm", "container remove", "rm"],
        "Remove one or more containers",
    ),
    verb::<rmi::Remove>(
        &["image rm", "image remove", "rmi"],
        "Remove one or more images",
    ),
    verb::<save::Save>(
        &["image save", "save"],
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
    ),
    verb::<start::Start>(
        &["container start", "start"],
        "Start one or more stopped containers",
    ),
    verb::<stats::Stats>(
        &["container stats", "stats"],
        "Display a live stream of container(s) resource usage statistics",
    ),
    verb::<stop::Stop>(
        &["container stop", "stop"],
        "Stop one or more running containers",
    ),
    verb::<df::DiskUsage>(&["system df"], "Show docker disk usage"),
    verb::<tag::Tag>(
        &["image tag", "tag"],
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    ),
    verb::<copy::Copy>(
        &["image copy"],
        "Send an image to another engine, without a registry and without the layers that it has",
    ),
    verb::<signature::Sign>(
        &["image sign"],
        "Sign an image in its registry with a key, as cosign does",
    ),
    verb::<signature::VerifySignature>(
        &["image verify-signature"],
        "Look for a signature of an image in its registry by one of the keys",
    ),
    verb::<signature::Attestations>(
        &["image attestations"],
        "List the provenance, SBOMs and signatures that a registry has of an image",
    ),
    verb::<verify::Verify>(
        &["image verify"],
        "Compare everything on disk of one or more images (default: all) with its digests",
    ),
    verb::<top::Top>(
        &["container top", "top"],
        "Display the running processes of a container",
    ),
    verb::<unpause::Unpause>(
        &["container unpause", "unpause"],
        "Unpause all processes within one or more containers",
    ),
    verb::<update::Update>(
        &["container update", "update"],
        "Update configuration of one or more containers",
    ),
    verb::<volume::Create>(&["volume create"], "Create a volume"),
    verb::<volume::List>(&["volume ls", "volume list"], "List volumes"),
    long(
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        verb::<volume::Remove>(
            &["volume rm", "volume remove"],
            "Remove one or more volumes",
        ),
    ),
    verb::<wait::Wait>(
        &["container wait", "wait"],
        "Block until one or more containers stop, then print their exit codes",
    ),
    hidden(verb::<dial_stdio::DialStdio>(
        &["system dial-stdio"],
        "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
    )),
    hidden(verb::<completion::Complete>(
        &["__complete"],
        "Complete a command line",
    )),
];

/// What the first words name.
pub enum Found<'a> {
    /// A verb, the name it was called by, and how many words that took.
    Verb(&'static Entry, &'static str, usize),
    /// Help, for everything or for these words.
    Help(&'a [String]),
    /// Nothing; with the group they are in, if that exists.
    Unknown(Option<&'a str>),
}

/// Finds what words name.
pub fn find(words: &[String]) -> Found<'_> {
    let Some(first) = words.first() else {
        return Found::Help(&[]);
    };
    if first == "help" {
        return Found::Help(&words[1..]);
    }
    if let Some((entry, path)) = by_path(first) {
        return Found::Verb(entry, path, 1);
    }
    if !GROUPS.iter().any(|(group, _)| group == first) {
        return Found::Unknown(None);
    }
    match words.get(1).map(String::as_str) {
        None | Some("--help" | "-h") => Found::Help(&words[..1]),
        Some(second) => match by_path(&format!("{first} {second}")) {
            Some((entry, path)) => Found::Verb(entry, path, 2),
            None => Found::Unknown(Some(first)),
        },
    }
}

fn by_path(path: &str) -> Option<(&'static Entry, &'static str)> {
    ENTRIES.iter().find_map(|entry| {
        let found = entry.paths.iter().find(|p| **p == path)?;
        Some((entry, *found))
    })
}

/// The usage line of a verb, by the name it was called.
pub fn usage_line(program: &str, entry: &Entry, path: &str) -> String {
    let arguments = entry.arguments.replace("{program}", program);
    format!("{program} {path} {arguments}")
        .trim_end()
        .to_owned()
}

/// The parser of a verb's arguments.
pub fn parser(entry: &Entry) -> Command {
    let command = usage::adapt((entry.build)(Command::new(entry.paths[0])));
    // Where `-h` is the host name, `--help` is an option like others.
    let named = command
        .get_arguments()
        .any(|arg| arg.get_id() == "hostname");
    let command = if named {
        command.mut_arg("help", |help| help.hide(false).help("Print usage"))
    } else {
        command
    };
    if entry.first_ends {
        command.mut_arg("words", |words| words.trailing_var_arg(true))
    } else {
        command
    }
}

/// Checks how many words were given.
pub fn check_count(program: &str, entry: &Entry, path: &str, matches: &ArgMatches) -> Outcome {
    let count = matches
        .try_get_raw("words")
        .ok()
        .flatten()
        .map_or(0, |words| words.len());
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let name = format!("{program} {path}");
    let (wrong, see) = match entry.takes {
        Takes::Nothing if count > 0 => ("accepts no arguments".to_owned(), "Run"),
        Takes::Exactly(n) if count != n => (format!("requires {n} {}", plural(n)), "Run"),
        Takes::AtLeast(n) if count < n => (format!("requires at least {n} {}", plural(n)), "See"),
        Takes::AtMost(n) if count > n => (format!("requires at most {n} {}", plural(n)), "Run"),
        Takes::Between(least, most) if !(least..=most).contains(&count) => (
            format!(
                "requires at least {least} and at most {most} {}",
                plural(most)
            ),
            "Run",
        ),
        _ => return Ok(()),
    };
    let usage_line = usage_line(program, entry, path);
    Err(Failure::new(format!(
        "{program}: '{name}' {wrong}\n\nUsage:  {usage_line}\n\n{see} '{name} --help' for more information"
    )))
}
