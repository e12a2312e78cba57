//! `builder.gc` of daemon.json, and berth's own `kept-blobs` and `unused-images`: how much room what can be had again may take.

use std::time::Duration;

use anyhow::{Context, bail};
use berth_build::CacheRule;
use berth_engine::image::UnusedImages;
use berth_store::Budget;
use serde::Deserialize;

use super::assemble::bytes;
use crate::option::value::duration;

/// `{"gc": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Builder {
    /// The budget of the build cache.
    #[serde(default)]
    pub gc: Gc,
}

/// dockerd's keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gc {
    /// Off: everything is kept.
    pub enabled: Option<bool>,
    /// The older name of `defaultReservedSpace`.
    pub default_keep_storage: Option<String>,
    /// So much may always be kept.
    pub default_reserved_space: Option<String>,
    /// More is never kept.
    pub default_max_used_space: Option<String>,
    /// Beyond what is reserved, nothing is kept while the disk has less free.
    pub default_min_free_space: Option<String>,
    /// Rules obeyed one after the other, instead of the defaults.
    pub policy: Vec<GcRule>,
}

/// One rule of `policy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GcRule {
    /// BuildKit's internal records too: there are none here.
    pub all: bool,
    /// `unused-for=48h`, `type=exec.cachemount`.
    pub filter: Vec<String>,
    /// The older name of `reservedSpace`.
    pub keep_storage: Option<String>,
    /// So much may always be kept.
    pub reserved_space: Option<String>,
    /// More is never kept.
    pub max_used_space: Option<String>,
    /// Beyond what is reserved, nothing is kept while the disk has less free.
    pub min_free_space: Option<String>,
}

/// The same bounds in berth's own spelling.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Bounds {
    /// So much may always be kept.
    pub reserved_space: Option<String>,
    /// More is never kept.
    pub max_used_space: Option<String>,
    /// Beyond what is reserved, nothing is kept while the disk has less free.
    pub min_free_space: Option<String>,
}

/// Where nothing is said: both give way when the disk fills up.
const CACHE: Budget = Budget {
    reserved: 2 << 30,
    max_used: 20 << 30,
    min_free: 5 << 30,
};
const BLOBS: Budget = Budget {
    reserved: 1 << 30,
    max_used: 20 << 30,
    min_free: 10 << 30,
};

fn size(given: Option<&String>, default: u64, key: &str) -> anyhow::Result<u64> {
    given.map_or(Ok(default), |text| {
        bytes(text).with_context(|| format!("invalid {key}"))
    })
}

/// The budget of the build cache.
pub fn cache(builder: Option<&Builder>) -> anyhow::Result<Budget> {
    let gc = builder
        .map(|builder| builder.gc.clone())
        .unwrap_or_default();
    if gc.enabled == Some(false) || !gc.policy.is_empty() {
        return Ok(Budget::UNLIMITED);
    }
    let reserved = gc.default_reserved_space.or(gc.default_keep_storage);
    Ok(Budget {
        reserved: size(reserved.as_ref(), CACHE.reserved, "defaultReservedSpace")?,
        max_used: size(
            gc.default_max_used_space.as_ref(),
            CACHE.max_used,
            "defaultMaxUsedSpace",
        )?,
        min_free: size(
            gc.default_min_free_space.as_ref(),
            CACHE.min_free,
            "defaultMinFreeSpace",
        )?,
    })
}

/// The rules of `policy`.
pub fn policy(builder: Option<&Builder>) -> anyhow::Result<Vec<CacheRule>> {
    let gc = builder.map(|builder| &builder.gc);
    let on = gc.filter(|gc| gc.enabled != Some(false));
    on.map_or(Ok(Vec::new()), |gc| gc.policy.iter().map(rule).collect())
}

fn rule(asked: &GcRule) -> anyhow::Result<CacheRule> {
    let reserved = asked
        .reserved_space
        .as_ref()
        .or(asked.keep_storage.as_ref());
    // Only a bound that is said is one; where none is, all that the filter speaks of goes.
    let bounded = asked.max_used_space.is_some() || asked.min_free_space.is_some();
    let most = if bounded { u64::MAX } else { 0 };
    let mut rule = CacheRule {
        budget: Budget {
            reserved: size(reserved, 0, "reservedSpace")?,
            max_used: size(asked.max_used_space.as_ref(), most, "maxUsedSpace")?,
            min_free: size(asked.min_free_space.as_ref(), 0, "minFreeSpace")?,
        },
        unused_for: Duration::ZERO,
        layers: true,
        mounts: true,
    };
    for filter in &asked.filter {
        let Some((key, value)) = filter.split_once('=') else {
            bail!("invalid filter {filter:?} in builder.gc.policy");
        };
        match (key, value.trim_start_matches('=')) {
            ("unused-for" | "until", time) => {
                let nanoseconds = duration(time)
                    .map_err(|e| anyhow::anyhow!("filter {filter:?} in builder.gc.policy: {e}"))?;
                rule.unused_for = Duration::from_nanos(nanoseconds.max(0) as u64);
            }
            ("type", "regular") => rule.mounts = false,
            ("type", "exec.cachemount") => rule.layers = false,
            // What BuildKit keeps of contexts and git is not kept here.
            ("type", _) => (rule.layers, rule.mounts) = (false, false),
            _ => bail!("unknown filter {filter:?} in builder.gc.policy"),
        }
    }
    Ok(rule)
}

/// The budget of compressed layers.
pub fn blobs(bounds: Option<&Bounds>) -> anyhow::Result<Budget> {
    bounds.map_or(Ok(BLOBS), |bounds| bounded(bounds, BLOBS))
}

/// `unused-images` of daemon.json.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Images {
    /// Kept for so long after its last use (`10m`), whatever the bounds say.
    pub keep_duration: Option<String>,
    /// As in [`Bounds`].
    pub reserved_space: Option<String>,
    /// As in [`Bounds`].
    pub max_used_space: Option<String>,
    /// As in [`Bounds`].
    pub min_free_space: Option<String>,
}

/// Time enough for who has pulled an image to make a container from it.
const IMAGE_KEEP: Duration = Duration::from_secs(600);

/// The budget of unused images: all are kept, unless something is said of it.
pub fn images(given: Option<&Images>) -> anyhow::Result<UnusedImages> {
    let Some(given) = given.cloned() else {
        return Ok(UnusedImages::UNLIMITED);
    };
    let bounds = Bounds {
        reserved_space: given.reserved_space,
        max_used_space: given.max_used_space,
        min_free_space: given.min_free_space,
    };
    let open = Budget {
        reserved: 0,
        max_used: u64::MAX,
        min_free: 0,
    };
    let keep = given.keep_duration.as_deref().map(|text| {
        let nanoseconds =
            duration(text).map_err(|e| anyhow::anyhow!("invalid keep-duration: {e}"))?;
        Ok::<_, anyhow::Error>(Duration::from_nanos(nanoseconds.max(0) as u64))
    });
    Ok(UnusedImages {
        budget: bounded(&bounds, open)?,
        keep: keep.transpose()?.unwrap_or(IMAGE_KEEP),
    })
}

/// What is said, and `default` for the rest.
fn bounded(bounds: &Bounds, default: Budget) -> anyhow::Result<Budget> {
    let Bounds {
        reserved_space,
        max_used_space,
        min_free_space,
    } = bounds;
    Ok(Budget {
        reserved: size(reserved_space.as_ref(), default.reserved, "reserved-space")?,
        max_used: size(max_used_space.as_ref(), default.max_used, "max-used-space")?,
        min_free: size(min_free_space.as_ref(), default.min_free, "min-free-space")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_docker_and_of_berth() {
        let builder = |text: &str| -> Builder { serde_json::from_str(text).unwrap() };
        assert_eq!(cache(None).unwrap(), CACHE);
        let off = builder(r#"{"gc":{"enabled":false}}"#);
        assert_eq!(cache(Some(&off)).unwrap(), Budget::UNLIMITED);
        let old = builder(r#"{"gc":{"enabled":true,"defaultKeepStorage":"5GB"}}"#);
        assert_eq!(cache(Some(&old)).unwrap().reserved, 5 << 30);
        let new = builder(
            r#"{"gc":{"defaultReservedSpace":"1GB","defaultMaxUsedSpace":"3GB","defaultMinFreeSpace":"7GB"}}"#,
        );
        let found = cache(Some(&new)).unwrap();
        assert_eq!(
            (found.reserved, found.max_used, found.min_free),
            (1 << 30, 3 << 30, 7 << 30)
        );
        let bad = builder(r#"{"gc":{"defaultMaxUsedSpace":"much"}}"#);
        assert!(cache(Some(&bad)).is_err());
        let own: Bounds = serde_json::from_str(r#"{"max-used-space":"1m"}"#).unwrap();
        assert_eq!(blobs(Some(&own)).unwrap().max_used, 1 << 20);
        assert_eq!(images(None).unwrap(), UnusedImages::UNLIMITED);
        let own: Images =
            serde_json::from_str(r#"{"max-used-space":"1m","keep-duration":"1h"}"#).unwrap();
        let found = images(Some(&own)).unwrap();
        assert_eq!((found.budget.reserved, found.budget.max_used), (0, 1 << 20));
        assert_eq!(found.keep, Duration::from_secs(3600));
        assert!(serde_json::from_str::<Bounds>(r#"{"max":"1m"}"#).is_err());
    }

    #[test]
    fn rules_of_a_policy() {
        let read = |text: &str| -> Builder { serde_json::from_str(text).unwrap() };
        let builder = read(
            r#"{"gc":{"enabled":true,"policy":[
                {"keepStorage":"512MB","filter":["unused-for=48h","type=exec.cachemount"]},
                {"maxUsedSpace":"3GB","filter":["type==regular"],"all":true}]}}"#,
        );
        let rules = policy(Some(&builder)).unwrap();
        assert_eq!(
            rules[0],
            CacheRule {
                budget: Budget {
                    reserved: 512 << 20,
                    max_used: 0,
                    min_free: 0
                },
                unused_for: Duration::from_secs(48 * 3600),
                layers: false,
                mounts: true,
            }
        );
        assert_eq!(rules[1].budget.max_used, 3 << 30);
        assert!(rules[1].layers && !rules[1].mounts);
        assert_eq!(cache(Some(&builder)).unwrap(), Budget::UNLIMITED);
        for bad in ["unused", "unused-for=long", "colour=red"] {
            let text = format!(r#"{{"gc":{{"policy":[{{"filter":["{bad}"]}}]}}}}"#);
            assert!(policy(Some(&read(&text))).is_err(), "{bad}");
        }
        let off = read(r#"{"gc":{"enabled":false,"policy":[{"all":true}]}}"#);
        assert!(policy(Some(&off)).unwrap().is_empty());
    }
}
