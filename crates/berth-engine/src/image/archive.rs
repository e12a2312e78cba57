//! save, load and import.

use std::collections::BTreeMap;

use berth_spec::Reference;
use berth_spec::docker::JsonMessage;
use berth_spec::docker::stream::ProgressDetail;
use berth_spec::oci::image::{ExecConfig, ImageConfig};
use berth_store::archive::{self, LoadEvent, Loaded, SaveItem};
use tokio::io::AsyncRead;

use super::{ProgressLines, point, progress, tell};
use crate::container::ConfigEdit;
use crate::crossing::blocking;
use crate::pipe::{blocking_reader, produce};
use crate::{ByteStream, Engine, Error, Result};

/// What [`import`] makes.
#[derive(Default)]
pub struct ImportRequest {
    /// The image's name; none where empty.
    pub repo: String,
    pub tag: String,
    pub message: String,
    pub platform: Option<String>,
    /// `--change`.
    pub edit: Option<ConfigEdit>,
}

/// Takes in images from an archive of `save`.
pub async fn load(
    engine: &Engine,
    tar: impl AsyncRead + Send + Unpin + 'static,
    quiet: bool,
    lines: ProgressLines,
) -> Result<()> {
    engine.0.reserve.admit()?;
    let engine = engine.clone();
    blocking(move || {
        let mut tar = blocking_reader(tar);
        let mut tell_of = |event| load_line(event, quiet, &lines);
        let loaded = archive::load(&engine.0.store, &mut tar, &mut tell_of)?;
        for image in &loaded {
            let id = image.image.to_string();
            let name = image.names.first().map_or(id.clone(), Reference::familiar);
            tell(&engine, "load", &id, &name, None);
        }
        // Names that pointed elsewhere may have left images without one; they stay, as in Docker.
        Ok::<_, Error>(())
    })
    .await
}

fn load_line(event: LoadEvent, quiet: bool, lines: &ProgressLines) {
    match event {
        LoadEvent::Layer { .. } if quiet => {}
        LoadEvent::Layer { id, current, total } => {
            let detail = ProgressDetail {
                current,
                total,
                ..ProgressDetail::default()
            };
            let line = JsonMessage {
                progress: progress::bar(current, total),
                ..JsonMessage::progress(id, "Loading layer", detail)
            };
            // A step of the display that does not fit is dropped, but for the last.
            if current >= total {
                let _ = lines.blocking_send(line);
            } else {
                let _ = lines.try_send(line);
            }
        }
        LoadEvent::Loaded(Loaded { image, names }) => {
            let mut texts: Vec<String> = names
                .iter()
                .map(|name| format!("Loaded image: {}\n", name.familiar()))
                .collect();
            if texts.is_empty() {
                texts.push(format!("Loaded image ID: {image}\n"));
            }
            for text in texts {
                // Nobody may read any more; the images are here all the same.
                let _ = lines.blocking_send(JsonMessage::stream(text));
            }
        }
    }
}

/// Writes images and what they need as an archive.
pub async fn save(engine: &Engine, names: Vec<String>) -> Result<ByteStream> {
    let chosen = engine.clone();
    let items = blocking(move || items(&chosen, &names)).await?;
    let engine = engine.clone();
    Ok(produce(move |out| {
        archive::save(&engine.0.store, &items, out)?;
        for item in &items {
            let id = item.image.to_string();
            tell(&engine, "save", &id, &id, None);
        }
        Ok::<_, Error>(())
    }))
}

/// The images that are named, each once, with the names that were said. A name without a tag means
/// all its tags.
fn items(engine: &Engine, names: &[String]) -> Result<Vec<SaveItem>> {
    let images = engine.0.store.images();
    let mut items: Vec<SaveItem> = Vec::new();
    let mut add = |image: &berth_spec::Digest, name: Option<Reference>| {
        let position = items.iter().position(|item| item.image == *image);
        let position = position.unwrap_or_else(|| {
            items.push(SaveItem {
                image: image.clone(),
                names: Vec::new(),
            });
            items.len() - 1
        });
        if let Some(name) = name
            && !items[position].names.contains(&name)
        {
            items[position].names.push(name);
        }
    };
    for text in names {
        let image = images.resolve(text).or_else(|error| {
            // Perhaps the repository has other tags than `latest`.
            let all = all_tags(engine, text)?;
            all.first().map_or(Err(error.into()), |(image, _)| {
                Ok::<_, Error>(image.clone())
            })
        })?;
        let reference = text.parse::<Reference>().ok();
        let bare = reference
            .as_ref()
            .is_some_and(|r| r.tag().is_none() && r.digest().is_none());
        let tags = if bare {
            all_tags(engine, text)?
        } else {
            Vec::new()
        };
        if tags.is_empty() {
            let name = reference
                .map(Reference::or_latest)
                .filter(|r| image.tags.contains(r));
            add(&image.id, name);
        }
        for (image, name) in tags {
            add(&image.id, Some(name));
        }
    }
    Ok(items)
}

fn all_tags(engine: &Engine, text: &str) -> Result<Vec<(berth_store::Image, Reference)>> {
    let Ok(wanted) = text.parse::<Reference>() else {
        return Ok(Vec::new());
    };
    if wanted.tag().is_some() || wanted.digest().is_some() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for image in engine.0.store.images().list()? {
        let names: Vec<Reference> = image
            .tags
            .iter()
            .filter(|tag| tag.name() == wanted.name())
            .cloned()
            .collect();
        found.extend(names.into_iter().map(|name| (image.clone(), name)));
    }
    Ok(found)
}

/// Makes an image of one layer from a tar of a root file system; answers its ID.
pub async fn import(
    engine: &Engine,
    request: ImportRequest,
    tar: impl AsyncRead + Send + Unpin + 'static,
) -> Result<String> {
    engine.0.reserve.admit()?;
    let name = super::reference(&request.repo, &request.tag)?;
    let engine = engine.clone();
    blocking(move || {
        let mut exec = ExecConfig::default();
        if let Some(edit) = request.edit {
            edit(&mut exec).map_err(Error::invalid)?;
        }
        let platform = request.platform.unwrap_or_default();
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let config = ImageConfig {
            config: exec,
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            comment: (!request.message.is_empty()).then(|| request.message.clone()),
            ..ImageConfig::default()
        };
        let mut tar = blocking_reader(tar);
        let image = archive::import_root(&engine.0.store, &mut tar, config, &request.message)?;
        let id = image.id.to_string();
        if let Some(name) = &name {
            point(&engine, name, &image.id)?;
        }
        let attributes =
            BTreeMap::from([("name".to_owned(), name.map_or(id.clone(), |n| n.familiar()))]);
        engine
            .0
            .events
            .tell(crate::event::Subject::Image, "import", &id, attributes);
        Ok::<_, Error>(id)
    })
    .await
}
