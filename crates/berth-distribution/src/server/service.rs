//! What all requests of a registry share.

use std::sync::Arc;

use super::fault::{Fault, Reply};
use super::memory::Memory;
use super::sessions::Sessions;
use super::settings::Settings;
use super::storage::Storage;

pub(crate) struct Service {
    pub(crate) settings: Settings,
    pub(crate) storage: Storage,
    pub(crate) sessions: Sessions,
    pub(crate) memory: Memory,
}

impl Service {
    pub(crate) fn open(settings: Settings) -> Reply<Arc<Self>> {
        Ok(Arc::new(Self {
            storage: Storage::open(&settings.root)?,
            sessions: Sessions::default(),
            memory: Memory::default(),
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
