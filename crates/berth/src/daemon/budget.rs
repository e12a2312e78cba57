//! `builder.gc` of daemon.json, and berth's own `kept-blobs`: how much room what can be had again may take.

use anyhow::Context;
use berth_store::Budget;
use serde::Deserialize;

use super::assemble::bytes;

/// `{"gc": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Builder {
    /// The budget of the build cache.
    #[serde(default)]
    pub gc: Gc,
}

/// dockerd's keys. Its `policy` lists are accepted and have no effect.
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
    if gc.enabled == Some(false) {
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

/// The budget of compressed layers.
pub fn blobs(bounds: Option<&Bounds>) -> anyhow::Result<Budget> {
    let bounds = bounds.cloned().unwrap_or_default();
    Ok(Budget {
        reserved: size(
            bounds.reserved_space.as_ref(),
            BLOBS.reserved,
            "reserved-space",
        )?,
        max_used: size(
            bounds.max_used_space.as_ref(),
            BLOBS.max_used,
            "max-used-space",
        )?,
        min_free: size(
            bounds.min_free_space.as_ref(),
            BLOBS.min_free,
            "min-free-space",
        )?,
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
        let old = builder(
            r#"{"gc":{"enabled":true,"defaultKeepStorage":"5GB","policy":[{"all":true}]}}"#,
        );
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
        assert!(serde_json::from_str::<Bounds>(r#"{"max":"1m"}"#).is_err());
    }
}
