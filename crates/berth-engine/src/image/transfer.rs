//! pull and push.

use berth_distribution::{Credentials, Progress, ProgressSender, PullOptions, PushOptions};
use berth_spec::docker::JsonMessage;
use berth_spec::docker::stream::PushAux;
use berth_spec::{Digest, Reference};
use tokio::sync::mpsc;

use super::{ProgressLines, progress, tell};
use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Steps that wait for the display.
const QUEUE: usize = 64;

/// What [`pull`] fetches.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// `fromImage`.
    pub image: String,
    /// `tag`: a tag or a digest; the image's own or `latest` where empty.
    pub tag: String,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
    pub auth: Option<Credentials>,
}

/// What [`push`] sends.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// A name without a tag.
    pub image: String,
    /// All tags of that name where empty.
    pub tag: String,
    pub auth: Option<Credentials>,
}

fn name_of(image: &str, tag: &str) -> Result<Reference> {
    let name: Reference = image.parse().map_err(|e| Error::invalid(format!("{e}")))?;
    match tag {
        "" => Ok(name.or_latest()),
        tag if tag.contains(':') => {
            let digest: Digest = tag
                .parse()
                .map_err(|_| Error::invalid("invalid reference format"))?;
            Ok(name.with_digest(digest))
        }
        tag => name
            .with_tag(tag)
            .map_err(|e| Error::invalid(e.to_string())),
    }
}

/// Passes steps on as lines until they end. A reader that left stops nothing.
async fn pass(mut steps: mpsc::Receiver<Progress>, lines: ProgressLines) {
    while let Some(step) = steps.recv().await {
        // Nobody may read any more; the transfer goes on.
        let _ = lines.send(progress::line(step)).await;
    }
}

/// Sends a last line; nobody may read any more.
async fn say(lines: &ProgressLines, text: String) {
    let _ = lines.send(JsonMessage::status(text)).await;
}

/// Fetches an image from its registry. An error that comes before the first line has a kind of its
/// own; answer it as such.
pub async fn pull(engine: &Engine, request: PullRequest, lines: ProgressLines) -> Result<()> {
    engine.0.reserve.admit()?;
    let reference = name_of(&request.image, &request.tag)?;
    let (sender, steps) = mpsc::channel(QUEUE);
    let options = PullOptions {
        platform: request.platform,
        auth: request.auth,
    };
    let fetch = async {
        let sender = ProgressSender::new(sender);
        engine
            .0
            .client
            .pull(&engine.0.store, &reference, options, sender)
            .await
    };
    let (pulled, ()) = tokio::join!(fetch, pass(steps, lines.clone()));
    let pulled = pulled?;
    if !pulled.up_to_date {
        engine.keep_budgets_once().await;
    }
    say(&lines, format!("Digest: {}", pulled.digest)).await;
    let name = reference.familiar();
    say(
        &lines,
        match pulled.up_to_date {
            true => format!("Status: Image is up to date for {name}"),
            false => format!("Status: Downloaded newer image for {name}"),
        },
    )
    .await;
    let image = {
        let (store, id) = (engine.0.store.clone(), pulled.image_id.clone());
        blocking(move || store.images().get(&id)).await.ok()
    };
    tell(
        engine,
        "pull",
        &name,
        &reference.familiar_name(),
        image.as_ref(),
    );
    Ok(())
}

/// Sends an image to its registry.
pub async fn push(engine: &Engine, request: PushRequest, lines: ProgressLines) -> Result<()> {
    let name: Reference = request
        .image
        .parse()
        .map_err(|e| Error::invalid(format!("{e}")))?;
    let names = match request.tag.as_str() {
        "" => tags_of(engine, &name).await?,
        tag => vec![
            name.with_tag(tag)
                .map_err(|e| Error::invalid(e.to_string()))?,
        ],
    };
    if names.is_empty() {
        return Err(Error::not_found(format!(
            "An image does not exist locally with the tag: {}",
            name.familiar_name()
        )));
    }
    let mut first = true;
    for reference in names {
        let id = {
            let (store, wanted) = (engine.0.store.clone(), reference.clone());
            blocking(move || store.images().find_name(&wanted)).await?
        };
        let Some(id) = id else {
            return Err(Error::not_found(match request.tag.as_str() {
                "" => format!("tag does not exist: {}", reference.familiar()),
                _ => format!(
                    "An image does not exist locally with the tag: {}",
                    reference.familiar_name()
                ),
            }));
        };
        if std::mem::take(&mut first) {
            say(
                &lines,
                format!("The push refers to repository [{}]", reference.name()),
            )
            .await;
        }
        push_one(engine, &reference, &id, request.auth.clone(), &lines).await?;
    }
    Ok(())
}

async fn tags_of(engine: &Engine, name: &Reference) -> Result<Vec<Reference>> {
    let (store, repository) = (engine.0.store.clone(), name.name());
    let images = blocking(move || store.images().list()).await?;
    let mut names: Vec<Reference> = images
        .into_iter()
        .flat_map(|image| image.tags)
        .filter(|tag| tag.name() == repository)
        .collect();
    names.sort();
    Ok(names)
}

async fn push_one(
    engine: &Engine,
    reference: &Reference,
    id: &Digest,
    auth: Option<Credentials>,
    lines: &ProgressLines,
) -> Result<()> {
    let (sender, steps) = mpsc::channel(QUEUE);
    let send = async {
        let sender = ProgressSender::new(sender);
        engine
            .0
            .client
            .push(&engine.0.store, reference, id, PushOptions { auth }, sender)
            .await
    };
    let (pushed, ()) = tokio::join!(send, pass(steps, lines.clone()));
    let pushed = pushed?;
    let tag = reference.tag().unwrap_or_default().to_owned();
    say(
        lines,
        format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size),
    )
    .await;
    let aux = PushAux {
        tag,
        digest: pushed.digest.to_string(),
        size: pushed.size,
    };
    if let Ok(value) = serde_json::to_value(aux) {
        let line = JsonMessage {
            progress_detail: Some(Default::default()),
            ..JsonMessage::aux(value)
        };
        // Nobody may read any more.
        let _ = lines.send(line).await;
    }
    tell(
        engine,
        "push",
        &reference.familiar(),
        &reference.familiar_name(),
        None,
    );
    Ok(())
}
