//! Rules of a garbage collection policy (`builder.gc.policy` of daemon.json), obeyed one after the other
//! after a build: each takes away what it speaks of, the longest unused first, until its bounds are kept.

use std::path::Path;
use std::time::Duration;

use berth_spec::Digest;
use berth_store::{Budget, Store};

use crate::Result;
use crate::cache::Cache;
use crate::op::Caches;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheRule {
    /// Bounds of all that the rule speaks of.
    pub budget: Budget,
    /// It takes only what nobody has used for so long.
    pub unused_for: Duration,
    /// Whether it speaks of layers.
    pub layers: bool,
    /// Whether it speaks of cache mounts.
    pub mounts: bool,
}

enum What {
    /// A layer, with all records of it.
    Layer(Digest),
    /// A cache mount, by its name.
    Mount(String),
}

/// Something that may go.
struct Item {
    what: What,
    /// Nanoseconds since 1970.
    used: i128,
    /// Bytes that are free without it.
    bytes: u64,
}

/// Obeys the rules; the cache mounts are below `mounts`.
pub(crate) fn obey(
    rules: &[CacheRule],
    store: &Store,
    caches: &Caches,
    mounts: &Path,
) -> Result<()> {
    let cache = Cache::new(store.clone());
    let now = jiff::Timestamp::now().as_nanosecond();
    for rule in rules {
        let mut items = Vec::new();
        if rule.layers {
            let layers = cache.own_layers()?.into_iter();
            items.extend(layers.map(|(layer, used, bytes)| Item {
                what: What::Layer(layer),
                used: used.into(),
                bytes,
            }));
        }
        if rule.mounts {
            let listed = caches
                .list(mounts)
                .map_err(|e| berth_store::Error::io("cannot read cache mounts", e))?;
            items.extend(listed.into_iter().filter(|m| !m.in_use).map(|mount| Item {
                what: What::Mount(mount.name),
                used: mount.changed.as_nanosecond(),
                bytes: mount.bytes,
            }));
        }
        items.sort_by_key(|item| item.used);
        let total = items.iter().map(|item| item.bytes).sum();
        let mut surplus = rule.budget.surplus(total, store.free_space()?);
        let mut forgot = false;
        for item in items {
            if surplus == 0 || now - item.used < rule.unused_for.as_nanos() as i128 {
                break;
            }
            match item.what {
                What::Mount(name) => caches
                    .remove(mounts, &name)
                    .map_err(|e| berth_store::Error::io("cannot remove a cache mount", e))?,
                What::Layer(layer) => {
                    cache.forget_layer(&layer)?;
                    forgot = true;
                }
            }
            surplus = surplus.saturating_sub(item.bytes);
        }
        if forgot {
            store.collect()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_store::StoreOptions;

    use super::*;
    use crate::cache::Outcome;
    use crate::dockerfile::Sharing;

    #[test]
    fn rules_are_obeyed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions {
            root: dir.path().join("root"),
            run_dir: dir.path().join("run"),
            extractor: berth_store::tree::Extractor::on_thread(),
        })
        .unwrap();
        let cache = Cache::new(store.clone());
        let lease = store.lease().unwrap();
        for name in ["one", "two"] {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(1_000_000);
            builder
                .append_data(&mut header, name, &[7; 1_000_000][..])
                .unwrap();
            let tar = builder.into_inner().unwrap();
            let layer = store.layers().import(&lease, &mut &tar[..], None).unwrap();
            for key in ["a", "b"] {
                let outcome = Outcome {
                    created: String::new(),
                    layer: Some(layer.diff_id.clone()),
                    created_by: String::new(),
                };
                cache
                    .put(&lease, &format!("{name}-{key}"), &outcome)
                    .unwrap();
            }
        }
        drop(lease);
        let mounts = dir.path().join("mounts");
        let caches = Caches::default();
        let cancel = tokio_util::sync::CancellationToken::new();
        let held = caches.hold("used", Sharing::Shared, &cancel).unwrap();
        for name in [&held.name, "idle"] {
            std::fs::create_dir_all(mounts.join(name)).unwrap();
            std::fs::write(mounts.join(name).join("f"), [7; 100_000]).unwrap();
        }
        let rule = |max_used, unused_for, layers, mounts| CacheRule {
            budget: Budget {
                reserved: 0,
                max_used,
                min_free: 0,
            },
            unused_for,
            layers,
            mounts,
        };
        let layers = || cache.own_layers().unwrap().len();
        let day = Duration::from_secs(86_400);
        // Nothing is old enough.
        obey(&[rule(0, day, true, true)], &store, &caches, &mounts).unwrap();
        assert_eq!((layers(), mounts.join("idle").exists()), (2, true));
        // The longest unused layer goes with all its records; mounts are not spoken of.
        let one = rule(1_500_000, Duration::ZERO, true, false);
        obey(&[one], &store, &caches, &mounts).unwrap();
        assert_eq!((layers(), mounts.join("idle").exists()), (1, true));
        assert!(cache.usage().unwrap()[0].id.starts_with("two"));
        // A mount that is in use stays.
        obey(
            &[rule(0, Duration::ZERO, false, true)],
            &store,
            &caches,
            &mounts,
        )
        .unwrap();
        assert!(!mounts.join("idle").exists() && mounts.join(&held.name).exists());
        assert_eq!(layers(), 1);
    }
}
