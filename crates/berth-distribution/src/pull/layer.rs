//! One layer of a pull, and what makes layers fit a config.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_spec::oci::image::{Descriptor, ImageConfig, Manifest};
use berth_spec::{Digest, Reference};
use berth_store::{Ingest, Lease, Store};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::source::Source;
use super::{blocking, fetch};
use crate::client::Shared;
use crate::registry::Registry;
use crate::{
    Error, ErrorKind, LayerPhase, Progress, ProgressSender, PullOptions, Result, manifest,
};

/// Chunks that may wait between the network and the decompressor; a chunk is at most some 64 KiB.
const CHUNKS_MAX: usize = 32;
/// Between two hints of the same layer.
const HINT_PAUSE: Duration = Duration::from_millis(100);

/// A layer to get.
pub(super) struct Wanted {
    pub(super) client: Arc<Shared>,
    pub(super) store: Store,
    pub(super) registry: Arc<Registry>,
    pub(super) reference: Reference,
    pub(super) lease: Lease,
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) progress: ProgressSender,
}

impl Wanted {
    /// Tells where the layer is now.
    pub(super) async fn say(&self, phase: LayerPhase) {
        self.progress.send(self.step(phase)).await;
    }

    fn step(&self, phase: LayerPhase) -> Progress {
        Progress::Layer {
            id: self.descriptor.digest.short().to_owned(),
            phase,
        }
    }

    /// Gets it, unless it is here.
    pub(super) async fn get(self) -> Result<()> {
        // Held before anybody looks, so that what is seen stays.
        let (lease, diff_id) = (self.lease.clone(), self.diff_id.clone());
        blocking(move || {
            lease.hold_layer(&diff_id);
            Ok(())
        })
        .await?;
        // Two pulls that want one layer: the second waits for the first, and finds it.
        let turn = self.client.turn(&self.diff_id);
        let _turn = match turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                self.say(LayerPhase::Waiting).await;
                turn.lock().await
            }
        };
        if self.is_here().await? {
            self.say(LayerPhase::AlreadyExists).await;
            return Ok(());
        }
        if self.blob_is_here().await? {
            return self.import_kept_blob().await;
        }
        let permit = match self.client.downloads.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.say(LayerPhase::Waiting).await;
                self.client
                    .downloads
                    .clone()
                    .acquire_owned()
                    .await
                    .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?
            }
        };
        let outcome = self.download().await;
        drop(permit);
        outcome
    }

    async fn is_here(&self) -> Result<bool> {
        let (store, diff_id) = (self.store.clone(), self.diff_id.clone());
        blocking(move || Ok(store.layers().get(&diff_id)?.is_some())).await
    }

    async fn blob_is_here(&self) -> Result<bool> {
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let digest = self.descriptor.digest.clone();
        let info = blocking(move || {
            lease.hold_blob(&digest);
            store.content().info(&digest)
        })
        .await?;
        Ok(info.is_some_and(|i| i.size == self.descriptor.size))
    }

    /// The blob was fetched before; only its layer is gone.
    async fn import_kept_blob(&self) -> Result<()> {
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let (descriptor, diff_id) = (self.descriptor.clone(), self.diff_id.clone());
        self.say(LayerPhase::DownloadComplete).await;
        blocking(move || {
            let mut file = store.content().open(&descriptor.digest)?;
            store.layers().import(&lease, &mut file, Some(&diff_id))?;
            store.layers().record_blob(&diff_id, &descriptor)
        })
        .await?;
        self.say(LayerPhase::PullComplete).await;
        Ok(())
    }

    /// Fetches and imports. Where bytes of an earlier try turn out to be wrong, begins anew once.
    async fn download(&self) -> Result<()> {
        let begun = self.begin().await?;
        let resumed = begun.written() > 0;
        match self.download_into(begun).await {
            Err(error) if resumed && error.kind() == ErrorKind::Invalid => {
                tracing::info!(blob = %self.descriptor.digest, %error, "fetching anew");
                let anew = self.begin().await?;
                self.download_into(anew).await
            }
            outcome => outcome,
        }
    }

    async fn begin(&self) -> Result<Ingest> {
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let Descriptor { digest, size, .. } = self.descriptor.clone();
        blocking(move || store.content().ingest_part(&lease, &digest, size)).await
    }

    async fn download_into(&self, blob: Ingest) -> Result<()> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let (descriptor, diff_id) = (self.descriptor.clone(), self.diff_id.clone());
        let from = blob.written();
        let import = spawn_blocking(move || {
            let mut source = Source::new(receiver, blob)?;
            let imported = store.layers().import(&lease, &mut source, Some(&diff_id));
            match imported {
                Ok(_) => source.finish()?,
                // A blob that is not what its digest says explains a layer that is not, too.
                Err(e) if e.kind() == berth_store::ErrorKind::Invalid => {
                    return source.finish().and(Err(e));
                }
                Err(e) => return Err(e),
            }
            store.layers().record_blob(&diff_id, &descriptor)
        });
        let here = AtomicU64::new(from);
        let fetching = fetch::fetch(
            &self.registry,
            &self.reference,
            &self.descriptor,
            from,
            self.client.retry,
            sender,
            |current| here.store(current, Ordering::Relaxed),
        );
        let fetched = tokio::select! {
            fetched = fetching => fetched,
            never = self.tell(&here, *size) => match never {},
        };
        if fetched.is_ok() {
            self.say(LayerPhase::VerifyingChecksum).await;
            self.say(LayerPhase::DownloadComplete).await;
            self.progress.hint(self.step(LayerPhase::Extracting {
                current: *size,
                total: *size,
            }));
        }
        let imported = import
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, format!("layer {digest}: {e}")))?;
        // What the network did comes first: an import that starved is only its echo.
        fetched?;
        imported.map_err(|e| explain(digest, e))?;
        self.say(LayerPhase::PullComplete).await;
        Ok(())
    }
}

impl Wanted {
    /// Tells now and then how many bytes are `here`: also when the line stands still, what came last.
    async fn tell(&self, here: &AtomicU64, total: u64) -> Infallible {
        let mut told = 0;
        let mut pauses = tokio::time::interval(HINT_PAUSE);
        loop {
            pauses.tick().await;
            let current = here.load(Ordering::Relaxed);
            if current != told {
                told = current;
                let phase = LayerPhase::Downloading { current, total };
                self.progress.hint(self.step(phase));
            }
        }
    }
}

/// Docker's words for a layer that is not what it should be.
fn explain(digest: &Digest, error: berth_store::Error) -> Error {
    let error = Error::from(error);
    match error.kind() {
        ErrorKind::Invalid => Error::new(
            ErrorKind::Invalid,
            format!("filesystem layer verification failed for digest {digest}: {error}"),
        ),
        _ => error,
    }
}

/// The diff IDs of the layers, checked against manifest, platform and system.
pub(super) fn diff_ids(
    config: &[u8],
    manifest: &Manifest,
    reference: &Reference,
    options: &PullOptions,
) -> Result<Vec<Digest>> {
    let invalid = |why: String| Error::new(ErrorKind::Invalid, why);
    for layer in &manifest.layers {
        // Artifacts of other kinds (charts, signatures, …) are no images.
        if !layer.media_type.contains(".tar") || layer.media_type.contains("encrypted") {
            return Err(invalid(format!(
                "{} is no image that can be run: it has a layer of type {}",
                reference.familiar(),
                layer.media_type
            )));
        }
    }
    let config: ImageConfig = serde_json::from_slice(config)
        .map_err(|e| invalid(format!("invalid image config: {e}")))?;
    if !config.os.is_empty() && config.os != "linux" {
        return Err(invalid(format!(
            "image operating system {:?} cannot be used on this platform",
            config.os
        )));
    }
    if let Some(platform) = options.platform.as_deref()
        && !fits(&config, Some(platform))
    {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "image with reference {} was found but does not match the specified platform: wanted {platform}, actual: {}",
                reference.familiar(),
                platform_of(&config)
            ),
        ));
    }
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(invalid(format!(
            "invalid image {}: its manifest has {} layers, its config {}",
            reference.familiar(),
            manifest.layers.len(),
            config.rootfs.diff_ids.len()
        )));
    }
    Ok(config.rootfs.diff_ids)
}

/// Whether an image with this config is for `platform`, or for this machine.
pub(super) fn fits(config: &ImageConfig, platform: Option<&str>) -> bool {
    let own = manifest::own_platform();
    let mut wanted = platform.unwrap_or(&own).split('/');
    let same = |wanted: Option<&str>, has: &str| {
        wanted.is_none_or(|w| w.is_empty() || has.is_empty() || w == has)
    };
    same(wanted.next(), &config.os)
        && same(wanted.next(), &config.architecture)
        && same(wanted.next(), config.variant.as_deref().unwrap_or_default())
}

fn platform_of(config: &ImageConfig) -> String {
    let mut text = format!("{}/{}", config.os, config.architecture);
    if let Some(variant) = config.variant.as_deref().filter(|v| !v.is_empty()) {
        text.push('/');
        text.push_str(variant);
    }
    text
}
