//! When manifests were last pulled: noted in memory, written down now and then.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_spec::Digest;

use super::record::manifests;
use super::service::Service;

/// How often what was noted is written down.
const INTERVAL: Duration = Duration::from_secs(30);
/// Notes that are kept between; more are lost, which costs accuracy only.
const MOST: usize = 16_384;
/// Notes that one transaction writes: others wait for no more.
const STEP: usize = 256;

/// Pulls that have not been written down yet.
#[derive(Default)]
pub(crate) struct Pulls(Mutex<HashSet<(String, Digest)>>);

impl Pulls {
    /// The manifest was pulled.
    pub(crate) fn note(&self, repository: &str, digest: &Digest) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MOST {
            notes.insert((repository.to_owned(), digest.clone()));
        }
    }

    fn take(&self) -> Vec<(String, Digest)> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *notes).into_iter().collect()
    }
}

/// Writes notes down again and again.
pub(crate) async fn run(service: Arc<Service>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let notes = service.pulls.take();
        if notes.is_empty() {
            continue;
        }
        let written = service
            .blocking(move |service| {
                let record = &service.storage.record;
                for some in notes.chunks(STEP) {
                    record.write(|tx| Ok(manifests::note_pulls(tx, some)?))?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = written {
            tracing::error!(%error, "cannot write down when manifests were pulled");
        }
    }
}
