//! history: how an image came to be.

use berth_spec::Reference;
use berth_spec::docker::image::HistoryEntry;
use berth_store::Image;
use jiff::Timestamp;

use crate::crossing::blocking;
use crate::{Engine, Error, Result};

/// Tells how an image came to be, the newest step first.
pub async fn history(engine: &Engine, name: &str) -> Result<Vec<HistoryEntry>> {
    let (store, name) = (engine.0.store.clone(), name.to_owned());
    blocking(move || {
        let image = store.images().resolve(&name)?;
        let mut sizes = Vec::new();
        for layer in image.layers() {
            let size = store.layers().get(layer)?.map_or(0, |l| l.size);
            sizes.push(i64::try_from(size).unwrap_or(i64::MAX));
        }
        let mut entries = steps(&image, &sizes);
        // Parents that are here have names of their own steps.
        let mut at = Some(image);
        let mut position = 0;
        while let Some(image) = at {
            if let Some(entry) = entries.get_mut(position) {
                entry.id = image.id.to_string();
                let tags: Vec<String> = image.tags.iter().map(Reference::familiar).collect();
                entry.tags = (!tags.is_empty()).then_some(tags);
            }
            at = image
                .parent
                .as_ref()
                .and_then(|p| store.images().get(p).ok());
            let steps = at.as_ref().map_or(0, |p| p.config.history.len());
            position = entries.len().saturating_sub(steps.max(1));
            if steps == 0 || steps >= entries.len() {
                break;
            }
        }
        Ok::<_, Error>(entries)
    })
    .await
}

/// The steps with their sizes: each that is not empty has the next layer.
fn steps(image: &Image, sizes: &[i64]) -> Vec<HistoryEntry> {
    let mut sizes = sizes.iter().copied();
    let mut entries: Vec<HistoryEntry> = image
        .config
        .history
        .iter()
        .map(|step| {
            let created = step
                .created
                .as_ref()
                .and_then(|t| t.parse::<Timestamp>().ok());
            HistoryEntry {
                id: "<missing>".to_owned(),
                created: created.map_or(0, Timestamp::as_second),
                created_by: step.created_by.clone().unwrap_or_default(),
                tags: None,
                size: if step.empty_layer {
                    0
                } else {
                    sizes.next().unwrap_or(0)
                },
                comment: step.comment.clone().unwrap_or_default(),
            }
        })
        .collect();
    // Layers that no step tells of.
    for size in sizes {
        entries.push(HistoryEntry {
            id: "<missing>".to_owned(),
            size,
            ..HistoryEntry::default()
        });
    }
    entries.reverse();
    entries
}
