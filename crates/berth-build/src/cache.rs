//! What earlier builds found out: vertex keys and their results, as records of the store, which
//! keeps the layers that they speak of.

use berth_spec::Digest;
use berth_store::{Lease, Store};
use serde::{Deserialize, Serialize};

use crate::Result;

/// The scope of the records.
const SCOPE: &str = "build-cache";
/// Records kept; the longest unused go first.
const RECORDS_MAX: usize = 10_000;

/// What an instruction gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// When it was run, as histories have it. Kept, so that an unchanged build gives the same image.
    pub(crate) created: String,
    /// The layer, where there is something in it.
    pub(crate) layer: Option<Digest>,
    /// The instruction as the history has it, for people who look into the cache.
    pub(crate) created_by: String,
}

/// The cache of one store.
#[derive(Clone)]
pub(crate) struct Cache {
    store: Store,
}

impl Cache {
    pub(crate) fn new(store: Store) -> Self {
        Cache { store }
    }

    /// What is known under `key`. The layer is there, and `lease` holds it.
    pub(crate) fn get(&self, lease: &Lease, key: &str) -> Result<Option<Outcome>> {
        let Some(bytes) = self.store.records().get(lease, SCOPE, key)? else {
            return Ok(None);
        };
        // A record of another version is as good as none.
        let Ok(outcome) = serde_json::from_slice::<Outcome>(&bytes) else {
            return Ok(None);
        };
        if let Some(layer) = &outcome.layer
            && self.store.layers().get(layer)?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    /// Remembers `outcome` under `key`.
    pub(crate) fn put(&self, lease: &Lease, key: &str, outcome: &Outcome) -> Result<()> {
        let bytes = serde_json::to_vec(outcome)
            .map_err(|e| crate::Error::invalid(format!("cannot write a cache record: {e}")))?;
        let layers: Vec<Digest> = outcome.layer.iter().cloned().collect();
        let records = self.store.records();
        Ok(records.put(lease, SCOPE, key, &bytes, &layers, &[])?)
    }

    /// Forgets what goes beyond the bound.
    pub(crate) fn trim(&self) -> Result<()> {
        let keys = self.store.records().keys(SCOPE)?;
        let surplus = keys.len().saturating_sub(RECORDS_MAX);
        for key in &keys[..surplus] {
            self.store.records().remove(SCOPE, key)?;
        }
        Ok(())
    }

    /// Forgets records: all, or those whose layer no image has. Answers their keys.
    pub(crate) fn prune(&self, all: bool) -> Result<Vec<String>> {
        let mut in_images = std::collections::HashSet::new();
        if !all {
            for image in self.store.images().list()? {
                in_images.extend(image.layers().iter().cloned());
            }
        }
        let lease = self.store.lease()?;
        let mut gone = Vec::new();
        for key in self.store.records().keys(SCOPE)? {
            let used = match self.get(&lease, &key)? {
                Some(Outcome {
                    layer: Some(layer), ..
                }) => in_images.contains(&layer),
                // Metadata costs nothing; it is of use as long as the layers around it are.
                Some(_) => !all,
                None => false,
            };
            if !used && self.store.records().remove(SCOPE, &key)? {
                gone.push(key);
            }
        }
        Ok(gone)
    }
}
