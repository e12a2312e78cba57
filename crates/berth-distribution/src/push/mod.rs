//! Push: layers as blobs, all at once → config → manifest → names.
//!
//! A layer goes as the blob it came as, if that is still known: the registry may have it, may link it
//! from another of its repositories, or gets it from our store. Else it is compressed anew. If every
//! layer of an image that was pulled goes as it came, so does its manifest, byte for byte.

mod blob;
mod document;

pub(crate) use blob::{closing, location};

use std::sync::Arc;
use std::time::Duration;

use berth_spec::oci::image::{CONFIG_MAX, Descriptor, media_type};
use berth_spec::{Digest, Reference};
use berth_store::{Image, Lease, Store};
use reqwest::Method;
use tokio::task::JoinSet;

use crate::client::Shared;
use crate::failure::Failure;
use crate::pull::blocking;
use crate::registry::Registry;
use crate::{Error, ErrorKind, LayerPhase, Progress, ProgressSender, PushOptions, Pushed, Result};

/// How long a registry may take over a manifest.
const MANIFEST_PATIENCE: Duration = Duration::from_secs(120);

/// What a push works with; cheap to clone.
#[derive(Clone)]
struct Push {
    client: Arc<Shared>,
    store: Store,
    registry: Arc<Registry>,
    reference: Reference,
    lease: Lease,
    progress: ProgressSender,
}

pub(crate) async fn push(
    client: &Arc<Shared>,
    store: &Store,
    reference: &Reference,
    image_id: &Digest,
    options: PushOptions,
    progress: ProgressSender,
) -> Result<Pushed> {
    let reference = reference.clone().or_latest();
    let Some(tag) = reference.tag().map(str::to_owned) else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "cannot push a digest reference",
        ));
    };
    let (images, id) = (store.images().clone(), image_id.clone());
    let image = blocking(move || images.get(&id)).await?;
    let registry = Registry::pushing(client, &reference, options.auth.as_ref()).await?;
    let push = Push {
        client: client.clone(),
        store: store.clone(),
        registry: Arc::new(registry),
        lease: store.lease()?,
        reference,
        progress,
    };
    let layers = push.layers(&image).await?;
    let config = push.config(&image).await?;
    let document = document::choose(&push.store, &image, config, layers)?;
    let digest = push.manifest(&tag, &document).await?;
    push.remember(&image, &digest, &document).await?;
    let size = document.bytes.len() as u64;
    let text = format!("{tag}: digest: {digest} size: {size}");
    push.progress
        .send(Progress::Status { id: None, text })
        .await;
    Ok(Pushed { digest, size })
}

impl Push {
    /// What a token must allow.
    fn scope(&self) -> String {
        format!("repository:{}:pull,push", self.reference.path())
    }

    async fn say(&self, diff_id: &Digest, phase: LayerPhase) {
        let id = diff_id.short().to_owned();
        self.progress.send(Progress::Layer { id, phase }).await;
    }

    /// Sends the layers; returns what they went as, lowest first.
    async fn layers(&self, image: &Image) -> Result<Vec<Descriptor>> {
        let known = document::recorded_layers(&self.store, image)?;
        let mut tasks = JoinSet::new();
        let mut started = std::collections::HashSet::new();
        for (at, diff_id) in image.layers().iter().enumerate() {
            if !started.insert(diff_id.clone()) {
                continue;
            }
            self.say(diff_id, LayerPhase::Preparing).await;
            let (push, diff_id) = (self.clone(), diff_id.clone());
            let preferred = known.get(at).cloned();
            tasks.spawn(async move {
                let permit = push
                    .client
                    .uploads
                    .clone()
                    .acquire_owned()
                    .await
                    .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
                let sent = blob::send_layer(&push, &diff_id, preferred.as_ref()).await;
                drop(permit);
                sent.map(|descriptor| (diff_id, descriptor))
            });
        }
        let mut sent = std::collections::HashMap::new();
        while let Some(done) = tasks.join_next().await {
            let (diff_id, descriptor) =
                done.map_err(|e| Error::new(ErrorKind::Internal, format!("a layer's task: {e}")))??;
            sent.insert(diff_id, descriptor);
        }
        Ok(image
            .layers()
            .iter()
            .filter_map(|diff_id| sent.get(diff_id).cloned())
            .collect())
    }

    async fn config(&self, image: &Image) -> Result<Descriptor> {
        let (content, id) = (self.store.content().clone(), image.id.clone());
        let bytes = blocking(move || content.read(&id, CONFIG_MAX)).await?;
        let size = bytes.len() as u64;
        let descriptor = Descriptor::new(media_type::DOCKER_CONFIG, image.id.clone(), size);
        if !blob::exists(self, &descriptor).await? {
            blob::upload(self, &descriptor, None, |_| ()).await?;
        }
        Ok(descriptor)
    }

    async fn manifest(&self, tag: &str, document: &document::Document) -> Result<Digest> {
        let path = format!("/v2/{}/manifests/{tag}", self.reference.path());
        let put = || async {
            let response = self
                .registry
                .send(Method::PUT, &path, &self.scope(), |r| {
                    r.timeout(MANIFEST_PATIENCE)
                        .header("content-type", &document.media_type)
                        .body(document.bytes.clone())
                })
                .await?;
            if response.status().is_success() {
                Ok(())
            } else {
                Err(Failure::read(response).await.into_error(""))
            }
        };
        self.client.retry.run("manifest", put).await?;
        Ok(berth_store::hash::sha256(&document.bytes))
    }

    /// The image is now known by this digest, and its blobs lie in this repository.
    async fn remember(
        &self,
        image: &Image,
        digest: &Digest,
        document: &document::Document,
    ) -> Result<()> {
        let push = self.clone();
        let (id, digest, document) = (image.id.clone(), digest.clone(), document.clone());
        blocking(move || {
            let images = push.store.images();
            images.set_manifest(&push.lease, &id, &document.media_type, &document.bytes)?;
            images.tag(&push.reference.without_tag().with_digest(digest), &id)?;
            push.store.sources().add(&push.reference, &document.blobs)
        })
        .await
    }
}
