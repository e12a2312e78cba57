//! Pull: resolve → manifest → config → layers, all at once → image → names.
//!
//! ```text
//!            registry ──chunks──▶ bounded channel ──▶ blob (hash of what travelled)
//!              fetch (async)                     └──▶ decompress ▶ tar (diff ID) ▶ index
//!                                                     import (a blocking thread)
//! ```
//!
//! One lease holds everything until the image is named. Nothing becomes visible before its digest
//! and size are what its descriptor says; a layer that is here already is not fetched.

mod fetch;
mod layer;
mod source;

use std::sync::Arc;

use berth_spec::oci::image::{Descriptor, Manifest};
use berth_spec::{Digest, Reference};
use berth_store::{Image, Lease, NewImage, Store};
use tokio::task::{JoinSet, spawn_blocking};

use crate::client::Shared;
use crate::endpoint::{self, Candidate};
use crate::manifest::{self, Document, Fetched};
use crate::registry::Registry;
use crate::signature::{self, Rule};
use crate::{Error, ErrorKind, Progress, ProgressSender, PullOptions, Pulled, Result};

/// What a pull works with.
struct Pull {
    client: Arc<Shared>,
    store: Store,
    reference: Reference,
    options: PullOptions,
    progress: ProgressSender,
}

pub(crate) async fn pull(
    client: &Arc<Shared>,
    store: &Store,
    reference: &Reference,
    options: PullOptions,
    progress: ProgressSender,
) -> Result<Pulled> {
    let pull = Pull {
        client: client.clone(),
        store: store.clone(),
        reference: reference.clone().or_latest(),
        options,
        progress,
    };
    let mut candidates = endpoint::candidates(&client.options, &pull.reference)?;
    candidates.retain(|candidate| candidate.pull);
    let mut resolved = None;
    let mut left = candidates.len();
    for candidate in candidates {
        left -= 1;
        match pull.through(candidate, &mut resolved).await {
            Err(error) if left > 0 => {
                tracing::info!(%reference, %error, "a mirror cannot help: asking the next");
            }
            outcome => return outcome,
        }
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "hosts.toml lets nobody be pulled from for {}",
            pull.reference.familiar()
        ),
    ))
}

impl Pull {
    /// Pulls from one place. What the tag stands for, a place that may not say is told: `resolved`
    /// remembers it for the next.
    async fn through(&self, candidate: Candidate, resolved: &mut Option<Digest>) -> Result<Pulled> {
        let host = self.reference.registry_host();
        let auth = self.options.auth.as_ref();
        let pinned = match (self.reference.digest(), candidate.resolve) {
            (None, false) => match resolved.clone() {
                Some(digest) => Some(digest),
                None => resolved.insert(self.resolve().await?).clone().into(),
            },
            _ => None,
        };
        // Tried once: who has no network wants to know now.
        let registry = Registry::reach(&self.client, candidate, host, auth).await?;
        self.from(Arc::new(registry), pinned).await
    }

    /// What the tag stands for, from one that may say.
    async fn resolve(&self) -> Result<Digest> {
        let auth = self.options.auth.as_ref();
        let registry = Registry::resolving(&self.client, &self.reference, auth).await?;
        let name = registry.name(&self.reference);
        let tag = name.tag().unwrap_or(berth_spec::reference::DEFAULT_TAG);
        if let Some(digest) = manifest::head(&registry, name, tag).await? {
            return Ok(digest);
        }
        let retry = self.client.retry;
        let fetched = retry.run(tag, || manifest::fetch(&registry, name, tag, None));
        Ok(fetched.await?.digest)
    }

    /// Pulls what the reference names, or what it is known to stand for.
    async fn from(&self, registry: Arc<Registry>, pinned: Option<Digest>) -> Result<Pulled> {
        let reference = registry.name(&self.reference);
        let target = match (pinned.as_ref().or(reference.digest()), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_owned(),
            (None, None) => berth_spec::reference::DEFAULT_TAG.to_owned(),
        };
        if let Some(pulled) = self.known(&registry, &target).await? {
            return Ok(pulled);
        }
        let retry = self.client.retry;
        let named = retry
            .run(&target, || {
                manifest::fetch(&registry, reference, &target, None)
            })
            .await?;
        self.say_begin().await;
        let digest = named.digest.clone();
        let chosen = self.choose(&registry, named).await?;
        self.check_signature(&registry, &digest, &chosen.digest)
            .await?;
        let Document::Manifest(manifest) = &chosen.document else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} names an index inside an index",
                    self.reference.familiar()
                ),
            ));
        };
        let config = retry
            .run("config", || {
                manifest::fetch_config(&registry, reference, &manifest.config)
            })
            .await?;
        let diff_ids = layer::diff_ids(&config, manifest, &self.reference, &self.options)?;
        let lease = self.store.lease()?;
        self.fetch_layers(&registry, &lease, &manifest.layers, diff_ids)
            .await?;
        let (image, up_to_date) = self.add(lease, config, &chosen, manifest, &digest).await?;
        self.say_end(&digest, up_to_date).await;
        Ok(Pulled {
            image_id: image.id,
            digest,
            up_to_date,
        })
    }

    /// What the policy asks for this name: a signature of what it stands for, or of the manifest in that.
    async fn check_signature(
        &self,
        registry: &Registry,
        named: &Digest,
        chosen: &Digest,
    ) -> Result<()> {
        let keys = match self.client.options.signatures.of(&self.reference) {
            Rule::Accept => return Ok(()),
            Rule::Reject => {
                return Err(Error::new(
                    ErrorKind::Unauthorized,
                    format!(
                        "the signature policy lets {} not be pulled",
                        self.reference.familiar()
                    ),
                ));
            }
            Rule::Signed(keys) => keys,
        };
        let name = registry.name(&self.reference);
        match signature::verify(registry, name, named, keys).await {
            Err(e) if e.kind() == ErrorKind::Invalid && named != chosen => {
                signature::verify(registry, name, chosen, keys).await
            }
            outcome => outcome,
        }
        .map(drop)
    }

    /// Where what the registry has under the tag (or what the digest says) is here already: names it
    /// and is done.
    async fn known(&self, registry: &Registry, target: &str) -> Result<Option<Pulled>> {
        let digest = match self.reference.digest() {
            Some(digest) => Some(digest.clone()),
            // A registry that does not answer HEAD is asked by GET.
            None => match target.parse() {
                Ok(digest) => Some(digest),
                Err(_) => manifest::head(registry, registry.name(&self.reference), target).await?,
            },
        };
        let Some(digest) = digest else {
            return Ok(None);
        };
        // What came before the policy did is looked at again; the rest of the pull does that.
        if !matches!(
            self.client.options.signatures.of(&self.reference),
            Rule::Accept
        ) && self
            .check_signature(registry, &digest, &digest)
            .await
            .is_err()
        {
            return Ok(None);
        }
        let (store, reference) = (self.store.clone(), self.reference.clone());
        let (options, pinned) = (self.options.clone(), digest.clone());
        let image = blocking(move || {
            let images = store.images();
            let Some(id) = images.find_name(&reference.with_digest(pinned))? else {
                return Ok(None);
            };
            let image = images.get(&id)?;
            if !layer::fits(&image.config, options.platform.as_deref()) {
                return Ok(None);
            }
            let up_to_date = match tag_of(&reference) {
                Some(tag) => {
                    let same = images.find_name(&tag)?.as_ref() == Some(&image.id);
                    if !same {
                        images.tag(&tag, &image.id)?;
                    }
                    same
                }
                None => true,
            };
            Ok(Some((image, up_to_date)))
        })
        .await?;
        let Some((image, up_to_date)) = image else {
            return Ok(None);
        };
        self.say_begin().await;
        self.say_end(&digest, up_to_date).await;
        Ok(Some(Pulled {
            image_id: image.id,
            digest,
            up_to_date,
        }))
    }

    /// The manifest itself, or the one of an index that is for our platform.
    async fn choose(&self, registry: &Registry, named: Fetched) -> Result<Fetched> {
        let Document::Index(index) = &named.document else {
            return Ok(named);
        };
        let platform = self.options.platform.as_deref();
        let Descriptor { digest, size, .. } = manifest::select(index, platform, &self.reference)?;
        self.client
            .retry
            .run("manifest", || {
                let expect = Some((digest, *size));
                let name = registry.name(&self.reference);
                manifest::fetch(registry, name, digest.as_str(), expect)
            })
            .await
    }

    async fn fetch_layers(
        &self,
        registry: &Arc<Registry>,
        lease: &Lease,
        descriptors: &[Descriptor],
        diff_ids: Vec<Digest>,
    ) -> Result<()> {
        let mut tasks = JoinSet::new();
        let mut seen = std::collections::HashSet::new();
        for (descriptor, diff_id) in descriptors.iter().zip(diff_ids) {
            if !seen.insert(diff_id.clone()) {
                continue;
            }
            let layer = layer::Wanted {
                client: self.client.clone(),
                store: self.store.clone(),
                registry: registry.clone(),
                reference: registry.name(&self.reference).clone(),
                lease: lease.clone(),
                descriptor: descriptor.clone(),
                diff_id,
                progress: self.progress.clone(),
            };
            layer.say(crate::LayerPhase::PullingFsLayer).await;
            tasks.spawn(layer.get());
        }
        // The first failure ends the others: dropping the set aborts them.
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| Error::new(ErrorKind::Internal, format!("a layer's task: {e}")))??;
        }
        Ok(())
    }

    /// Adds the image and names it, and says whether that was its name before. The lease ends only
    /// after that.
    async fn add(
        &self,
        lease: Lease,
        config: Vec<u8>,
        chosen: &Fetched,
        manifest: &Manifest,
        digest: &Digest,
    ) -> Result<(Image, bool)> {
        let (store, reference) = (self.store.clone(), self.reference.clone());
        let manifest_bytes = Some((chosen.media_type.clone(), chosen.bytes.clone()));
        let digest = digest.clone();
        let mut blobs: Vec<Digest> = manifest.layers.iter().map(|l| l.digest.clone()).collect();
        blobs.push(manifest.config.digest.clone());
        blocking(move || {
            let new = NewImage {
                config,
                manifest: manifest_bytes,
                parent: None,
            };
            let image = store.images().add(&lease, new)?;
            store
                .images()
                .tag(&reference.with_digest(digest), &image.id)?;
            let mut up_to_date = false;
            if let Some(tag) = tag_of(&reference) {
                up_to_date = store.images().find_name(&tag)?.as_ref() == Some(&image.id);
                store.images().tag(&tag, &image.id)?;
            }
            store.sources().add(&reference, &blobs)?;
            Ok((image, up_to_date))
        })
        .await
    }

    async fn say_begin(&self) {
        let text = format!("Pulling from {}", self.reference.path());
        let id = Some(match (self.reference.digest(), self.reference.tag()) {
            (None, Some(tag)) => tag.to_owned(),
            _ => self.reference.to_string(),
        });
        self.progress.send(Progress::Status { id, text }).await;
    }

    async fn say_end(&self, digest: &Digest, up_to_date: bool) {
        let reference = self.reference.familiar();
        let status = if up_to_date {
            format!("Status: Image is up to date for {reference}")
        } else {
            format!("Status: Downloaded newer image for {reference}")
        };
        for text in [format!("Digest: {digest}"), status] {
            self.progress
                .send(Progress::Status { id: None, text })
                .await;
        }
    }
}

/// The tag that a pull moves: none where a digest was asked for.
fn tag_of(reference: &Reference) -> Option<Reference> {
    match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => reference.with_tag(tag).ok(),
        _ => None,
    }
}

/// Runs a piece of the store's work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> berth_store::Result<T> + Send + 'static,
) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Error::from),
        Err(e) => Err(Error::new(
            ErrorKind::Internal,
            format!("a store's task: {e}"),
        )),
    }
}
