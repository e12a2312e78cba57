//! What all requests of a registry share.

use std::sync::Arc;

use super::access::Access;
use super::cache::Caches;
use super::engine::EngineImages;
use super::events::Events;
use super::fault::{Fault, Reply};
use super::memory::Memory;
use super::metrics::Metrics;
use super::pulls::Pulls;
use super::sessions::Sessions;
use super::settings::Settings;
use super::storage::Storage;

pub(crate) struct Service {
    pub(crate) settings: Settings,
    pub(crate) storage: Storage,
    pub(crate) access: Access,
    pub(crate) sessions: Sessions,
    pub(crate) memory: Memory,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Events,
    pub(crate) pulls: Pulls,
    pub(crate) caches: Caches,
    /// Where an engine's images are served.
    pub(crate) engine: Option<EngineImages>,
}

impl Service {
    pub(crate) fn open(settings: Settings) -> Reply<Arc<Self>> {
        let metrics = Arc::new(Metrics::default());
        let storage = Storage::open(&settings)?;
        Ok(Arc::new(Self {
            access: Access::open(settings.auth.as_ref(), &settings.root, &storage)?,
            memory: Memory::new(!storage.record.is_shared()),
            storage,
            sessions: Sessions::default(),
            events: Events::open(&settings, &metrics)?,
            metrics,
            pulls: Pulls::default(),
            engine: settings
                .share_engine
                .as_deref()
                .map(EngineImages::open)
                .transpose()?,
            caches: Caches::open(&settings.caches, &settings.client)?,
            settings,
        }))
    }

    /// Runs `work` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Reply<T> + Send + 'static,
    ) -> Reply<T> {
        let service = self.clone();
        tokio::task::spawn_blocking(move || work(&service))
            .await
            .map_err(|e| Fault::internal("a task ended early", e))?
    }
}
