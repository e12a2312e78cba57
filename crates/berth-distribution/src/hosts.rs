//! `certs.d/<host>/hosts.toml`, containerd's file of where a registry's content may come from.
//!
//! ```toml
//! server = "https://registry.example"           # asked last; the registry itself without one
//! [host."https://mirror.example/v2/proxy"]      # asked in the order of the file
//!   capabilities = ["pull", "resolve", "push"]  # all without
//!   ca = "mirror.crt"                           # relative to the file
//!   client = [["mirror.cert", "mirror.key"]]
//!   skip_verify = false
//!   override_path = true                        # the path is all there is before the repository
//!   dial_timeout = "5s"
//!   [host."https://mirror.example/v2/proxy".header]
//!     x-key = "value"
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::{Error, ErrorKind, Result};

/// Bytes that the file may have.
const FILE_MAX: u64 = 256 << 10;
/// Hosts that it may name.
const HOSTS_MAX: usize = 64;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// In the order in which they are asked, the server last.
    pub(crate) hosts: Vec<Host>,
}

/// One place to ask, and how.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// `scheme://host[:port]`.
    pub(crate) base: String,
    /// `host[:port]`.
    pub(crate) authority: String,
    /// What stands before the repository: `/v2`, or what the file has instead.
    pub(crate) path: String,
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) push: bool,
    pub(crate) ca: Vec<PathBuf>,
    /// Certificate and key; both may be in one file.
    pub(crate) client: Vec<(PathBuf, Option<PathBuf>)>,
    pub(crate) skip_verify: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) dial_timeout: Option<Duration>,
}

#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    of_server: Table,
}

#[derive(Default, Deserialize)]
struct Table {
    capabilities: Option<Vec<String>>,
    ca: Option<Many<String>>,
    client: Option<Many<Pair>>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, Many<String>>,
    #[serde(default)]
    override_path: bool,
    dial_timeout: Option<String>,
}

/// One, or several in a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Many<T> {
    One(T),
    List(Vec<T>),
}

impl<T> Many<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Many::One(one) => vec![one],
            Many::List(list) => list,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pair {
    Both(String),
    Apart([String; 2]),
}

impl Hosts {
    /// The file for `namespace` (`docker.io`, `registry.example:5000`) in the first directory that has
    /// one: under its own name, as `registry.example_5000_`, or for all as `_default`.
    pub(crate) fn find(dirs: &[PathBuf], namespace: &str) -> Result<Option<Self>> {
        let mut names = vec![namespace.to_owned()];
        if let Some((name, port)) = namespace.rsplit_once(':') {
            names.push(format!("{name}_{port}_"));
        }
        names.push("_default".to_owned());
        for name in names {
            for dir in dirs {
                let dir = dir.join(&name);
                let path = dir.join("hosts.toml");
                let Ok(file) = std::fs::File::open(&path) else {
                    continue;
                };
                let invalid = |why: String| {
                    Error::new(ErrorKind::Invalid, format!("{}: {why}", path.display()))
                };
                let mut text = String::new();
                file.take(FILE_MAX + 1)
                    .read_to_string(&mut text)
                    .map_err(|e| invalid(e.to_string()))?;
                if text.len() as u64 > FILE_MAX {
                    return Err(invalid(format!("it has more than {FILE_MAX} bytes")));
                }
                return Self::parse(&text, &dir, namespace)
                    .map(Some)
                    .map_err(invalid);
            }
        }
        Ok(None)
    }

    fn parse(text: &str, dir: &Path, namespace: &str) -> std::result::Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        if file.host.len() > HOSTS_MAX {
            return Err(format!("it names more than {HOSTS_MAX} hosts"));
        }
        let mut hosts = Vec::new();
        for (url, table) in file.host {
            let table: Table = table
                .try_into()
                .map_err(|e: toml::de::Error| format!("host {url:?}: {e}"))?;
            let host = Host::new(&url, table, dir).map_err(|e| format!("host {url:?}: {e}"))?;
            hosts.push(host);
        }
        let own = match namespace {
            "docker.io" => berth_spec::reference::DEFAULT_REGISTRY,
            other => other,
        };
        let server = file.server.unwrap_or_else(|| format!("https://{own}"));
        let server = Host::new(&server, file.of_server, dir)
            .map_err(|e| format!("server {server:?}: {e}"))?;
        hosts.push(server);
        Ok(Self { hosts })
    }
}

impl Host {
    fn new(url: &str, table: Table, dir: &Path) -> std::result::Result<Self, String> {
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("https://{url}"),
        };
        let url = Url::parse(&url).map_err(|e| e.to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{} is no scheme of a registry", url.scheme()));
        }
        let base = url.origin().ascii_serialization();
        let authority = base
            .split_once("://")
            .map_or(String::new(), |(_, host)| host.to_owned());
        let above = url.path().trim_end_matches('/');
        let path = match table.override_path {
            true => above.to_owned(),
            false if above.ends_with("/v2") => above.to_owned(),
            false => format!("{above}/v2"),
        };
        let can = |what: &str| {
            let given = table.capabilities.as_ref();
            given.is_none_or(|list| list.iter().any(|c| c == what))
        };
        if let Some(unknown) = table
            .capabilities
            .iter()
            .flatten()
            .find(|c| !["pull", "resolve", "push"].contains(&c.as_str()))
        {
            return Err(format!("unknown capability {unknown:?}"));
        }
        let client = table.client.map(Many::into_vec).unwrap_or_default();
        Ok(Self {
            path,
            pull: can("pull"),
            resolve: can("resolve"),
            push: can("push"),
            ca: table
                .ca
                .map(Many::into_vec)
                .unwrap_or_default()
                .into_iter()
                .map(|file| dir.join(file))
                .collect(),
            client: client
                .into_iter()
                .map(|pair| match pair {
                    Pair::Both(file) => (dir.join(file), None),
                    Pair::Apart([certificate, key]) => (
                        dir.join(certificate),
                        (!key.is_empty()).then(|| dir.join(key)),
                    ),
                })
                .collect(),
            skip_verify: table.skip_verify.unwrap_or(false),
            headers: headers(table.header)?,
            dial_timeout: table
                .dial_timeout
                .map(|text| duration(&text).ok_or(format!("invalid dial_timeout {text:?}")))
                .transpose()?,
            base,
            authority,
        })
    }
}

fn headers(given: BTreeMap<String, Many<String>>) -> std::result::Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in given {
        let invalid = || format!("invalid header {name:?}");
        let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
        for value in values.into_vec() {
            let mut value: HeaderValue = value.parse().map_err(|_| invalid())?;
            // It may be a password.
            value.set_sensitive(true);
            headers.append(parsed.clone(), value);
        }
    }
    Ok(headers)
}

/// A duration in Go's words: `5s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit);
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let seconds = match &tail[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &tail[end..];
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Vec<Host>, String> {
        Hosts::parse(text, Path::new("/certs/x"), "docker.io").map(|found| found.hosts)
    }

    #[test]
    fn the_whole_format() {
        let hosts = parse(
            r#"
            server = "https://registry.example"
            ca = ["a.crt", "/abs/b.crt"]
            [host."https://z.example/v2/proxy"]
              capabilities = ["pull"]
              override_path = true
              skip_verify = true
              client = [["c.cert", "c.key"], ["d.pem", ""]]
              dial_timeout = "1m30s"
              [host."https://z.example/v2/proxy".header]
                x-key = ["a", "b"]
            [host."http://a.example:8080/sub"]
              client = "both.pem"
            [host."plain.example"]
            "#,
        )
        .unwrap();
        let bases: Vec<_> = hosts.iter().map(|h| (&h.base[..], &h.path[..])).collect();
        assert_eq!(
            bases,
            [
                ("https://z.example", "/v2/proxy"),
                ("http://a.example:8080", "/sub/v2"),
                ("https://plain.example", "/v2"),
                ("https://registry.example", "/v2"),
            ]
        );
        let first = &hosts[0];
        assert!(first.pull && !first.resolve && !first.push && first.skip_verify);
        assert_eq!(first.dial_timeout, Some(Duration::from_secs(90)));
        assert_eq!(first.headers.get_all("x-key").iter().count(), 2);
        assert_eq!(
            first.client,
            [
                (
                    PathBuf::from("/certs/x/c.cert"),
                    Some(PathBuf::from("/certs/x/c.key"))
                ),
                (PathBuf::from("/certs/x/d.pem"), None)
            ]
        );
        assert_eq!(hosts[1].authority, "a.example:8080");
        assert_eq!(
            hosts[3].ca,
            [PathBuf::from("/certs/x/a.crt"), PathBuf::from("/abs/b.crt")]
        );
    }

    #[test]
    fn without_a_server_it_is_the_registry_itself() {
        let hosts = parse("").unwrap();
        assert_eq!(hosts.len(), 1);
        assert_eq!(hosts[0].base, "https://registry-1.docker.io");
        assert!(hosts[0].push);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, word) in [
            ("server = 5", "server"),
            ("server = \"ftp://x\"", "ftp"),
            ("[host.\"https://x\"]\ncapabilities=[\"fly\"]", "fly"),
            ("[host.\"https://x\"]\ndial_timeout=\"soon\"", "soon"),
            (
                "[host.\"https://x\"]\n[host.\"https://x\".header]\n\"a b\"=\"c\"",
                "header",
            ),
            ("[host.\"https://x\"", "TOML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
