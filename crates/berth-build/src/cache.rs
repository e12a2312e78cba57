//! What earlier builds found out: vertex keys and their results, as records of the store, which
//! keeps the layers that they speak of.

use std::collections::{HashMap, HashSet};

use berth_spec::Digest;
use berth_store::{Budget, Lease, Store};
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

/// A record of the build cache, as disk usage shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// The vertex key.
    pub id: String,
    /// The instruction as the history has it.
    pub description: String,
    /// When it was run, as histories have it.
    pub created: String,
    /// What it is: `regular` (a layer), or BuildKit's word for a cache mount.
    pub kind: &'static str,
    /// Whether a build uses it just now.
    pub in_use: bool,
    /// Whether an image has the layer too, so that it takes no room of its own.
    pub shared: bool,
    /// Bytes on disk of its layer.
    pub size: u64,
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

    /// The records that have layers, the longest unused first. Those of one layer count once.
    pub(crate) fn usage(&self) -> Result<Vec<CacheRecord>> {
        let in_images = self.in_images()?;
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for (id, outcome) in self.records()? {
            let Some(layer) = outcome.layer.filter(|layer| seen.insert(layer.clone())) else {
                continue;
            };
            let size = self
                .store
                .layers()
                .get(&layer)?
                .map_or(0, |layer| layer.bytes);
            found.push(CacheRecord {
                id,
                description: outcome.created_by,
                created: outcome.created,
                kind: "regular",
                in_use: false,
                shared: in_images.contains(&layer),
                size,
            });
        }
        Ok(found)
    }

    /// Forgets what goes beyond the bounds: the longest unused first, and of what takes room only
    /// what no image has, since the rest costs nothing. What that frees is free when it returns.
    pub(crate) fn trim(&self, budget: &Budget) -> Result<()> {
        let free = self.store.free_space()?;
        if self.trim_to(RECORDS_MAX, |used| budget.surplus(used, free))? {
            self.store.collect()?;
        }
        Ok(())
    }

    /// `surplus` says how many of so many bytes have to go. Whether some went.
    fn trim_to(&self, records: usize, surplus: impl Fn(u64) -> u64) -> Result<bool> {
        let all = self.records()?;
        let in_images = self.in_images()?;
        let mut sizes = HashMap::new();
        for layer in all.iter().filter_map(|(_, outcome)| outcome.layer.as_ref()) {
            if !in_images.contains(layer)
                && let Some(found) = self.store.layers().get(layer)?
            {
                sizes.insert(layer.clone(), found.bytes);
            }
        }
        let mut over = surplus(sizes.values().sum());
        let mut freed = false;
        let mut surplus = all.len().saturating_sub(records);
        for (key, outcome) in &all {
            let size = outcome
                .layer
                .as_ref()
                .and_then(|layer| sizes.get(layer))
                .copied();
            if surplus == 0 && (over == 0 || size.is_none()) {
                continue;
            }
            self.store.records().remove(SCOPE, key)?;
            surplus = surplus.saturating_sub(1);
            if let Some(layer) = &outcome.layer {
                let bytes = sizes.remove(layer).unwrap_or(0);
                over = over.saturating_sub(bytes);
                freed |= bytes > 0;
            }
        }
        Ok(freed)
    }

    /// The layers that no image has, when a record of each was last used (nanoseconds since 1970), and
    /// their bytes on disk.
    pub(crate) fn own_layers(&self) -> Result<Vec<(Digest, i64, u64)>> {
        let in_images = self.in_images()?;
        let used: HashMap<String, i64> = self.store.records().uses(SCOPE)?.into_iter().collect();
        let mut last: HashMap<Digest, i64> = HashMap::new();
        for (key, outcome) in self.records()? {
            if let Some(layer) = outcome.layer.filter(|layer| !in_images.contains(layer)) {
                let at = used.get(&key).copied().unwrap_or(0);
                let known = last.entry(layer).or_insert(at);
                *known = at.max(*known);
            }
        }
        let mut found = Vec::new();
        for (layer, at) in last {
            if let Some(there) = self.store.layers().get(&layer)? {
                found.push((layer, at, there.bytes));
            }
        }
        Ok(found)
    }

    /// Forgets all records of a layer.
    pub(crate) fn forget_layer(&self, layer: &Digest) -> Result<()> {
        for (key, outcome) in self.records()? {
            if outcome.layer.as_ref() == Some(layer) {
                self.store.records().remove(SCOPE, &key)?;
            }
        }
        Ok(())
    }

    /// Forgets records: all, or those whose layer no image has. Answers their keys.
    pub(crate) fn prune(&self, all: bool) -> Result<Vec<String>> {
        let in_images = self.in_images()?;
        let mut gone = Vec::new();
        for (key, outcome) in self.records()? {
            // Metadata costs nothing; it is of use as long as the layers around it are.
            let used = outcome.layer.is_none_or(|layer| in_images.contains(&layer));
            if (all || !used) && self.store.records().remove(SCOPE, &key)? {
                gone.push(key);
            }
        }
        Ok(gone)
    }

    /// All that can be read, the longest unused first. What cannot is of another version, and goes.
    fn records(&self) -> Result<Vec<(String, Outcome)>> {
        let mut found = Vec::new();
        for (key, value) in self.store.records().list(SCOPE)? {
            match serde_json::from_slice(&value) {
                Ok(outcome) => found.push((key, outcome)),
                Err(_) => drop(self.store.records().remove(SCOPE, &key)?),
            }
        }
        Ok(found)
    }

    fn in_images(&self) -> Result<HashSet<Digest>> {
        let images = self.store.images().list()?;
        Ok(images
            .iter()
            .flat_map(|image| image.layers().to_vec())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use berth_store::StoreOptions;

    use super::*;

    #[test]
    fn the_longest_unused_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions {
            root: dir.path().join("root"),
            run_dir: dir.path().join("run"),
            extractor: berth_store::tree::Extractor::on_thread(),
        })
        .unwrap();
        let cache = Cache::new(store.clone());
        let lease = store.lease().unwrap();
        let put = |key: &str, layer: Option<&Digest>| {
            let outcome = Outcome {
                created: String::new(),
                layer: layer.cloned(),
                created_by: String::new(),
            };
            cache.put(&lease, key, &outcome).unwrap();
        };
        let layer = |name: &str| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(100_000);
            builder
                .append_data(&mut header, name, &[0; 100_000][..])
                .unwrap();
            let tar = builder.into_inner().unwrap();
            store
                .layers()
                .import(&lease, &mut &tar[..], None)
                .unwrap()
                .diff_id
        };
        let (one, two) = (layer("one"), layer("two"));
        put("a", Some(&one));
        put("b", None);
        put("c", Some(&two));
        let usage = cache.usage().unwrap();
        assert_eq!(usage.len(), 2);
        assert!(!usage[0].shared && usage[0].size >= 100_000);
        let keys = || store.records().keys(SCOPE).unwrap();
        cache
            .trim_to(10, |used| used.saturating_sub(10 << 20))
            .unwrap();
        assert_eq!(keys(), ["a", "b", "c"]);
        // Used just now: the other one has to go.
        assert!(cache.get(&lease, "a").unwrap().is_some());
        cache
            .trim_to(10, |used| used.saturating_sub(150_000))
            .unwrap();
        assert_eq!(keys(), ["b", "a"]);
        cache
            .trim_to(1, |used| used.saturating_sub(10 << 20))
            .unwrap();
        assert_eq!(keys(), ["a"]);
        store
            .records()
            .put(&lease, SCOPE, "old", b"{}", &[], &[])
            .unwrap();
        assert!(cache.get(&lease, "old").unwrap().is_none());
        assert_eq!(cache.prune(true).unwrap(), ["a"]);
        assert_eq!(keys(), Vec::<String>::new());
    }
}
