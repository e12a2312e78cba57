//! prune: all stopped containers go.

use berth_spec::docker::container::ContainersPruned;

use super::RemoveOptions;
use super::state::Status;
use crate::crossing::blocking;
use crate::{Engine, Filters, Result, time};

/// Removes containers that do not run; filters are `until` and `label`.
pub async fn prune(engine: &Engine, filters: Filters) -> Result<ContainersPruned> {
    filters.allow(&["until", "label", "label!"])?;
    let until = time::until(&filters)?;
    let mut pruned = ContainersPruned::default();
    for container in engine.0.containers.all() {
        let (idle, created, labels) = container.read(|r| {
            let idle = matches!(
                r.life.status,
                Status::Created | Status::Exited | Status::Dead
            );
            (idle, r.created, r.config.labels.clone().unwrap_or_default())
        });
        if !idle || until.is_some_and(|until| created > until) || !filters.labels(&labels) {
            continue;
        }
        let (store, id) = (engine.0.store.clone(), container.id.clone());
        let size = blocking(move || store.snapshots().usage(&id))
            .await
            .unwrap_or(0);
        match super::remove(engine, &container.id, RemoveOptions::default()).await {
            Ok(()) => {
                pruned
                    .containers_deleted
                    .get_or_insert_default()
                    .push(container.id.clone());
                pruned.space_reclaimed += size;
            }
            // It was started or removed meanwhile.
            Err(error) => tracing::debug!(container.id = %container.id, %error, "not pruned"),
        }
    }
    let attributes = std::collections::BTreeMap::from([(
        "reclaimed".to_owned(),
        pruned.space_reclaimed.to_string(),
    )]);
    engine
        .0
        .events
        .tell(crate::event::Subject::Container, "prune", "", attributes);
    Ok(pruned)
}
