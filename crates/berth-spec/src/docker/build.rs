//! The query of `POST /build`: many options, three of them JSON inside the query.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Ulimit;

/// Options of a build as they travel in the query.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildQuery {
    /// Path of the Dockerfile in the context; empty for `Dockerfile`.
    pub dockerfile: String,
    /// Names for the image, `t` repeated.
    pub tags: Vec<String>,
    /// `host:address`, repeated.
    pub extra_hosts: Vec<String>,
    /// A URL that is the context (or the Dockerfile) instead of the body.
    pub remote: String,
    /// Suppress output, answer the ID only.
    pub quiet: bool,
    /// Use no cache.
    pub no_cache: bool,
    /// Images whose layers may serve as cache (JSON list).
    pub cache_from: Vec<String>,
    /// Ask the registry for a newer base image.
    pub pull: bool,
    /// Remove intermediate containers; Docker's default is true.
    pub rm: bool,
    /// Remove them even after a failure.
    pub force_rm: bool,
    /// Bytes.
    pub memory: i64,
    /// Bytes, memory and swap together.
    pub memory_swap: i64,
    /// Relative weight.
    pub cpu_shares: i64,
    /// `0-3,5`.
    pub cpuset_cpus: String,
    /// `0-3,5`.
    pub cpuset_mems: String,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Parent cgroup of the steps.
    pub cgroup_parent: String,
    /// Build arguments (JSON map); `None` takes the engine's own value, if it has one.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Bytes of /dev/shm; 0 for the default.
    pub shm_size: i64,
    /// Squash the new layers into one.
    pub squash: bool,
    /// Labels of the image (JSON map).
    pub labels: BTreeMap<String, String>,
    /// Network of RUN steps.
    pub network_mode: String,
    /// `os[/arch[/variant]]`.
    pub platform: String,
    /// Stage to stop at.
    pub target: String,
    /// BuildKit's outputs (JSON).
    pub outputs: String,
    /// Resource limits of processes (JSON list).
    pub ulimits: Vec<Ulimit>,
    /// Windows only.
    pub isolation: String,
    /// Security options, repeated.
    pub security_opt: Vec<String>,
    /// A BuildKit session.
    pub session: String,
    /// An ID by which the build can be cancelled.
    pub build_id: String,
    /// `1` (or empty) for the classic builder, `2` for BuildKit.
    pub version: String,
}

/// Why a build's query was refused.
#[derive(Debug, thiserror::Error)]
pub enum BuildQueryError {
    /// A parameter that holds JSON does not.
    #[error("error reading build option {name}: {source}")]
    Json {
        /// The parameter.
        name: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A parameter that holds a number does not.
    #[error("strconv.ParseInt: parsing {value:?}: invalid syntax (build option {name})")]
    Number {
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
    },
}

impl BuildQuery {
    /// Reads decoded query pairs; unknown ones are ignored.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BuildQueryError> {
        let mut query = BuildQuery {
            rm: true,
            ..Default::default()
        };
        for (name, value) in pairs {
            query.set(name, value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), BuildQueryError> {
        match name {
            "dockerfile" => self.dockerfile = value.to_owned(),
            "t" => self.tags.push(value.to_owned()),
            "extrahosts" => self.extra_hosts.push(value.to_owned()),
            "remote" => self.remote = value.to_owned(),
            "q" => self.quiet = boolean(value),
            "nocache" => self.no_cache = boolean(value),
            "cachefrom" => self.cache_from = json(name, value)?,
            "pull" => self.pull = boolean(value),
            "rm" => self.rm = boolean(value),
            "forcerm" => self.force_rm = boolean(value),
            "memory" => self.memory = number(name, value)?,
            "memswap" => self.memory_swap = number(name, value)?,
            "cpushares" => self.cpu_shares = number(name, value)?,
            "cpusetcpus" => self.cpuset_cpus = value.to_owned(),
            "cpusetmems" => self.cpuset_mems = value.to_owned(),
            "cpuperiod" => self.cpu_period = number(name, value)?,
            "cpuquota" => self.cpu_quota = number(name, value)?,
            "cgroupparent" => self.cgroup_parent = value.to_owned(),
            "buildargs" => self.build_args = json(name, value)?,
            "shmsize" => self.shm_size = number(name, value)?,
            "squash" => self.squash = boolean(value),
            "labels" => self.labels = json(name, value)?,
            "networkmode" => self.network_mode = value.to_owned(),
            "platform" => self.platform = value.to_owned(),
            "target" => self.target = value.to_owned(),
            "outputs" => self.outputs = value.to_owned(),
            "ulimits" => self.ulimits = json(name, value)?,
            "isolation" => self.isolation = value.to_owned(),
            "securityopt" => self.security_opt.push(value.to_owned()),
            "session" => self.session = value.to_owned(),
            "buildid" => self.build_id = value.to_owned(),
            "version" => self.version = value.to_owned(),
            _ => {}
        }
        Ok(())
    }

    /// The pairs a client sends for these options; what is at its default is left out.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        let mut text = |name, value: &str| {
            if !value.is_empty() {
                pairs.push((name, value.to_owned()));
            }
        };
        text("dockerfile", &self.dockerfile);
        self.tags.iter().for_each(|tag| text("t", tag));
        self.extra_hosts
            .iter()
            .for_each(|host| text("extrahosts", host));
        self.security_opt
            .iter()
            .for_each(|opt| text("securityopt", opt));
        text("remote", &self.remote);
        text("cpusetcpus", &self.cpuset_cpus);
        text("cpusetmems", &self.cpuset_mems);
        text("cgroupparent", &self.cgroup_parent);
        text("networkmode", &self.network_mode);
        text("platform", &self.platform);
        text("target", &self.target);
        text("outputs", &self.outputs);
        text("isolation", &self.isolation);
        text("session", &self.session);
        text("buildid", &self.build_id);
        text("version", &self.version);
        for (name, flag) in [
            ("q", self.quiet),
            ("nocache", self.no_cache),
            ("pull", self.pull),
            ("forcerm", self.force_rm),
            ("squash", self.squash),
        ] {
            text(name, if flag { "1" } else { "" });
        }
        text("rm", if self.rm { "1" } else { "0" });
        for (name, number) in [
            ("memory", self.memory),
            ("memswap", self.memory_swap),
            ("cpushares", self.cpu_shares),
            ("cpuperiod", self.cpu_period),
            ("cpuquota", self.cpu_quota),
            ("shmsize", self.shm_size),
        ] {
            text(
                name,
                &if number == 0 {
                    String::new()
                } else {
                    number.to_string()
                },
            );
        }
        text(
            "cachefrom",
            &as_json(&self.cache_from, self.cache_from.is_empty()),
        );
        text(
            "buildargs",
            &as_json(&self.build_args, self.build_args.is_empty()),
        );
        text("labels", &as_json(&self.labels, self.labels.is_empty()));
        text("ulimits", &as_json(&self.ulimits, self.ulimits.is_empty()));
        pairs
    }
}

/// Docker's reading of a boolean parameter: everything but a few words is true.
pub fn boolean(value: &str) -> bool {
    !matches!(
        value.trim().to_ascii_lowercase().as_str(),
        "" | "0" | "no" | "false" | "none"
    )
}

fn number(name: &str, value: &str) -> Result<i64, BuildQueryError> {
    if value.is_empty() {
        return Ok(0);
    }
    value.parse().map_err(|_| BuildQueryError::Number {
        name: name.to_owned(),
        value: value.to_owned(),
    })
}

fn json<T: serde::de::DeserializeOwned + Default>(
    name: &str,
    value: &str,
) -> Result<T, BuildQueryError> {
    if value.is_empty() {
        return Ok(T::default());
    }
    let parsed: Option<T> =
        serde_json::from_str(value).map_err(|source| BuildQueryError::Json {
            name: name.to_owned(),
            source,
        })?;
    Ok(parsed.unwrap_or_default())
}

fn as_json<T: Serialize>(value: &T, empty: bool) -> String {
    if empty {
        return String::new();
    }
    serde_json::to_string(value).unwrap_or_default()
}

/// Answer of `POST /build/prune`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildPruned {
    /// IDs of what went.
    pub caches_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
