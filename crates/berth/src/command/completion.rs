//! `completion bash|zsh|fish`, and what its scripts ask back.

use berth_client::Client;
use berth_spec::docker::volume::VolumeList;
use berth_spec::docker::{ContainerSummary, ImageSummary, Network};

use super::{ENTRIES, Entry, Found, GROUPS, Takes, Verb, find, parser};
use crate::cli::Cli;
use crate::context_store::{ContextStore, DEFAULT};
use crate::failure::{Failure, Outcome};

/// A colon ends a word for bash; the names of images have some. So words are taken from the
/// line itself, and of what completes them only the part after the last colon is given.
const BASH: &str = r#"# bash completion of PROGRAM
_PROGRAM() {
    local line="${COMP_LINE:0:COMP_POINT}" current IFS=$' \t\n'
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[${#words[@]} - 1]}"
    mapfile -t COMPREPLY < <(PROGRAM __complete -- "${words[@]:1}" 2>/dev/null)
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    fi
}
complete -o default -F _PROGRAM PROGRAM
"#;

/// The quotes and the `(@)` keep an empty last word, which asks for everything that may come next.
const ZSH: &str = r#"#compdef PROGRAM
_PROGRAM() {
    local -a found
    found=("${(@f)$(PROGRAM __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
if [ "$funcstack[1]" = _PROGRAM ]; then _PROGRAM "$@"; else compdef _PROGRAM PROGRAM; fi
"#;

const FISH: &str = r#"# fish completion of PROGRAM
function __PROGRAM_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (PROGRAM __complete -- $words[2..-1] 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
"#;

#[derive(Debug, clap::Args)]
pub struct Completion {
    words: Vec<String>,
}

impl Verb for Completion {
    const ARGUMENTS: &'static str = "bash|zsh|fish";
    const TAKES: Takes = Takes::Exactly(1);

    async fn run(self, cli: &Cli) -> Outcome {
        let program = cli.program;
        let script = match self.words[0].as_str() {
            "bash" => BASH.replace("PROGRAM", program),
            "zsh" => ZSH.replace("PROGRAM", program),
            "fish" => FISH.replace("PROGRAM", program),
            other => {
                return Err(Failure::new(format!(
                    "completion: unknown shell {other:?}: must be one of \"bash\", \"zsh\" or \"fish\""
                )));
            }
        };
        print!("{script}");
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub struct Complete {
    words: Vec<String>,
}

impl Verb for Complete {
    const ARGUMENTS: &'static str = "[WORD...]";
    const TAKES: Takes = Takes::AtLeast(0);
    const FIRST_WORD_ENDS_OPTIONS: bool = true;

    async fn run(self, cli: &Cli) -> Outcome {
        let (last, before) = match self.words.split_last() {
            Some((last, before)) => (last.as_str(), before),
            None => ("", &[][..]),
        };
        let mut found = match find(before) {
            Found::Verb(entry, _, _) if last.starts_with('-') => options(entry),
            Found::Verb(_, path, _) if path.starts_with("context ") => contexts(cli),
            // An engine that does not run is not started for this.
            Found::Verb(entry, path, _) => match cli.connect() {
                Ok(client) => names(&client, entry, path).await.unwrap_or_default(),
                Err(_) => Vec::new(),
            },
            Found::Help(_) => verbs(before.first().map(String::as_str)),
            Found::Unknown(_) => Vec::new(),
        };
        found.retain(|name| name.starts_with(last));
        found.sort();
        found.dedup();
        for name in found {
            println!("{name}");
        }
        Ok(())
    }
}

fn contexts(cli: &Cli) -> Vec<String> {
    let kept = ContextStore::new(cli.config.dir()).list();
    let names = kept.into_iter().map(|context| context.name);
    names.chain([DEFAULT.to_owned()]).collect()
}

fn verbs(group: Option<&str>) -> Vec<String> {
    let paths = ENTRIES.iter().filter(|e| !e.hidden).flat_map(|e| e.paths);
    let groups = GROUPS.iter().map(|(name, _)| (*name).to_owned());
    match group {
        None => paths
            .filter(|path| !path.contains(' '))
            .map(|path| (*path).to_owned())
            .chain(groups)
            .collect(),
        Some(group) => paths
            .filter_map(|path| path.strip_prefix(group)?.strip_prefix(' '))
            .map(str::to_owned)
            .collect(),
    }
}

fn options(entry: &Entry) -> Vec<String> {
    parser(entry)
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .collect()
}

/// The names of what a verb is about.
async fn names(
    client: &Client,
    entry: &Entry,
    path: &str,
) -> Result<Vec<String>, berth_client::Error> {
    let about = |words: &[&str]| words.iter().any(|word| entry.arguments.contains(word));
    if path.starts_with("volume") {
        let list: VolumeList = client.get("/volumes").json().await?;
        return Ok(list.volumes.into_iter().map(|volume| volume.name).collect());
    }
    if path.starts_with("network") {
        let list: Vec<Network> = client.get("/networks").json().await?;
        return Ok(list.into_iter().map(|network| network.name).collect());
    }
    let mut found = Vec::new();
    if about(&["CONTAINER", "NAME|ID"]) {
        let list: Vec<ContainerSummary> = client
            .get("/containers/json")
            .flag("all", true)
            .json()
            .await?;
        let names = list.into_iter().flat_map(|container| container.names);
        found.extend(names.map(|name| name.trim_start_matches('/').to_owned()));
    }
    if about(&["IMAGE", "NAME"]) {
        let list: Vec<ImageSummary> = client.get("/images/json").json().await?;
        let tags = list.into_iter().flat_map(|image| image.repo_tags);
        found.extend(tags.filter(|tag| !tag.contains("<none>")));
    }
    Ok(found)
}
