//! `image copy`, which Docker does not have: from this engine to another, without a registry. Layers that
//! the other engine has are not sent.

mod leave_out;

use std::collections::HashSet;

use berth_client::{Body, Client, Host, Options};
use berth_spec::Reference;
use berth_spec::docker::image::{ImageInspect, ImageSummary};
use serde::Deserialize;

use super::{Takes, Verb};
use crate::cli::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::size::human;
use crate::progress::{self, Sink};
use crate::reference;

/// Images of the other engine that are looked at for layers; the newest.
const IMAGES_MAX: usize = 1000;
/// Bytes between the engine that gives and the one that takes.
const BUFFER: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub struct Copy {
    /// Suppress the output of the other engine
    #[arg(short, long)]
    quiet: bool,
    /// Socket of the engine behind ssh (default: its own default)
    #[arg(long, value_name = "string")]
    socket: Option<String>,
    words: Vec<String>,
}

impl Verb for Copy {
    const ARGUMENTS: &'static str =
        "[OPTIONS] IMAGE ssh://[USER@]HOST[/NAME]|unix://SOCKET|tcp://HOST:PORT [NAME]";
    const TAKES: Takes = Takes::Between(2, 3);

    async fn run(self, cli: &Cli) -> Outcome {
        let (host, name) = destination(&self.words[1], self.socket.as_deref(), cli.tls.is_some())?;
        let name = self.words.get(2).cloned().or(name);
        let name = name.map(|name| reference::parse(&name)).transpose()?;
        if name.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Failure::new(
                "an image cannot be given a name with a digest",
            ));
        }
        let here = cli.client().await?;
        let there = Client::new(Options {
            tls: cli.tls.clone().filter(|_| matches!(host, Host::Tcp { .. })),
            host,
            api_version: None,
            headers: Vec::new(),
            user_agent: cli.user_agent(),
        })?;
        let source = &self.words[0];
        let image: ImageInspect = here.get(format!("/images/{source}/json")).json().await?;
        let names = names(source, &image, name);
        if has(&there, &image.id).await? {
            println!("{}: already there", image.id);
        } else {
            let sent = send(here, &there, &image, self.quiet).await?;
            println!(
                "Sent {} of {} layers, {}",
                sent.layers,
                image.root_fs.layers.len(),
                human(sent.bytes as f64)
            );
        }
        for name in names {
            there
                .post(format!("/images/{}/tag", image.id))
                .query("repo", name.familiar_name())
                .query("tag", name.tag().unwrap_or_default())
                .done()
                .await?;
            println!("{}", name.familiar());
        }
        Ok(())
    }
}

/// Where to, and what the image is called there if that is said with it.
fn destination(text: &str, socket: Option<&str>, tls: bool) -> Outcome<(Host, Option<String>)> {
    let (address, name) = match text
        .strip_prefix("ssh://")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((authority, name)) => (format!("ssh://{authority}"), Some(name.to_owned())),
        None => (text.to_owned(), None),
    };
    let mut host = Host::parse(&address, tls).map_err(|e| Failure::new(e.to_string()))?;
    match (&mut host, socket) {
        (Host::Ssh { socket, .. }, Some(given)) => *socket = Some(given.to_owned()),
        (_, Some(_)) => return Err(Failure::new("--socket is for ssh:// only")),
        _ => {}
    }
    Ok((host, name.filter(|name| !name.is_empty())))
}

/// The names that the image is to have there: the one that was said, else the one that it was asked by,
/// else all of its own.
fn names(source: &str, image: &ImageInspect, said: Option<Reference>) -> Vec<Reference> {
    if let Some(name) = said {
        return vec![name.or_latest()];
    }
    let own: Vec<Reference> = image
        .repo_tags
        .iter()
        .filter_map(|tag| tag.parse().ok())
        .collect();
    let asked = source.parse::<Reference>().ok().map(Reference::or_latest);
    match asked.filter(|asked| own.contains(asked)) {
        Some(asked) => vec![asked],
        None => own,
    }
}

async fn has(there: &Client, id: &str) -> Outcome<bool> {
    let found: Result<ImageInspect, _> = there.get(format!("/images/{id}/json")).json().await;
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What went over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    layers: usize,
    bytes: u64,
}

async fn send(here: &Client, there: &Client, image: &ImageInspect, quiet: bool) -> Outcome<Sent> {
    let held = held(there, &image.root_fs.layers).await?;
    let archive = here
        .get("/images/get")
        .query("names", &image.id)
        .send()
        .await?
        .reader();
    let (near, far) = tokio::io::duplex(BUFFER);
    let load = async {
        let response = there
            .post("/images/load")
            .query("quiet", if quiet { "1" } else { "0" })
            .body("application/x-tar", Body::from_reader(far))
            .send()
            .await?;
        let sink = if quiet { Sink::Nothing } else { Sink::Stderr };
        progress::show(response.lines(), sink, |_| {}).await
    };
    let (sent, loaded) = tokio::join!(leave_out::pass(archive, near, &held), load);
    // What the engine that takes has said explains why nobody read on.
    loaded?;
    Ok(sent?)
}

/// Which of `layers` the other engine has, so that it will do without them. Docker's own finds a layer
/// only over the same layers as here; berth's finds it anywhere.
async fn held(there: &Client, layers: &[String]) -> Outcome<HashSet<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Version {
        #[serde(default)]
        components: Vec<Component>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Component {
        name: String,
    }
    let version: Version = there.get("/version").json().await?;
    let anywhere = version.components.iter().any(|c| c.name == "berth");
    let mut images: Vec<ImageSummary> = there.get("/images/json").query("all", "1").json().await?;
    images.sort_by_key(|image| -image.created);
    let mut held = HashSet::new();
    for image in images.iter().take(IMAGES_MAX) {
        // It may have gone meanwhile.
        let request = there.get(format!("/images/{}/json", image.id));
        let Ok(found) = request.json::<ImageInspect>().await else {
            continue;
        };
        let theirs = found.root_fs.layers;
        if anywhere {
            held.extend(theirs);
            continue;
        }
        let same = layers
            .iter()
            .zip(theirs)
            .take_while(|(own, other)| *own == other);
        held.extend(same.map(|(_, other)| other));
    }
    held.retain(|layer| layers.contains(layer));
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let (host, name) =
            destination("ssh://me@far:2222/team/box:v1", Some("/run/b.sock"), false).unwrap();
        let expected = Host::Ssh {
            user: Some("me".into()),
            name: "far".into(),
            port: Some(2222),
            socket: Some("/run/b.sock".into()),
        };
        assert_eq!((host, name.as_deref()), (expected, Some("team/box:v1")));
        let (host, name) = destination("unix:///run/x.sock", None, false).unwrap();
        assert_eq!((host, name), (Host::Unix("/run/x.sock".into()), None));
        assert!(destination("unix:///run/x.sock", Some("/y"), false).is_err());
        assert!(destination("far", None, false).is_err());
        assert_eq!(destination("ssh://far/", None, false).unwrap().1, None);
    }
}
