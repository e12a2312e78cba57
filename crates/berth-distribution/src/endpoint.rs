//! Where a registry answers and how it may be spoken to: mirrors, TLS, plain http, proxies.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_spec::Reference;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;

use crate::hosts::{Host, Hosts};
use crate::{ClientOptions, Error, ErrorKind, Result};

/// The largest certificate or key file that is read, in bytes.
const PEM_MAX: u64 = 1 << 20;
/// A registry that does not take a connection within this time is taken for absent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A transfer that stands still this long is broken off (and resumed).
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// One base URL to try, with the HTTP client that may speak to it.
pub(crate) struct Endpoint {
    /// `scheme://host[:port]`, without a slash at the end.
    pub(crate) base: String,
    /// What stands between that and a repository: `/v2`, mostly.
    pub(crate) path: String,
    /// The registry that it stands in for, where that must be said (`?ns=`).
    pub(crate) namespace: Option<String>,
    /// What every request carries.
    pub(crate) headers: HeaderMap,
    pub(crate) http: reqwest::Client,
    /// The same, for requests with a long body: it takes what time it takes, as long as the other
    /// side acknowledges bytes.
    pub(crate) uploads: reqwest::Client,
    /// The same, but for token services: follows no redirect, so that credentials stay where they
    /// were meant to go.
    pub(crate) tokens: reqwest::Client,
}

/// A registry, or what stands in for one: asked by https, and by http where that is allowed.
pub(crate) struct Candidate {
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether this is a mirror, which never sees the registry's credentials.
    pub(crate) mirror: bool,
    /// Whether it may say what a tag stands for.
    pub(crate) resolve: bool,
    /// Whether content may come from it.
    pub(crate) pull: bool,
    /// Whether content may be sent to it.
    pub(crate) push: bool,
    /// What the reference is called there, if not by its own repository.
    pub(crate) remote: Option<Reference>,
}

/// Who may be asked for what `reference` names, in order; the registry itself is the last.
pub(crate) fn candidates(options: &ClientOptions, reference: &Reference) -> Result<Vec<Candidate>> {
    let mut found = by_prefix(options, reference)?;
    let host = reference.registry_host();
    if host == berth_spec::reference::DEFAULT_REGISTRY {
        for mirror in &options.mirrors {
            let above = mirror.trim_end_matches('/');
            let above = above.split_once("://").map_or(above, |(_, after)| after);
            let above = above.split_once('/').map_or("", |(_, path)| path);
            let path = match above {
                "" => "/v2".to_owned(),
                above => format!("/{above}/v2"),
            };
            found.push(mirror_candidate(options, mirror, &path)?);
        }
    }
    found.extend(of_host(options, host)?);
    Ok(found)
}

/// Who may be asked in the name of the registry `host`: what its `hosts.toml` says, and the registry.
pub(crate) fn of_host(options: &ClientOptions, host: &str) -> Result<Vec<Candidate>> {
    let namespace = match host {
        berth_spec::reference::DEFAULT_REGISTRY => "docker.io",
        host => host,
    };
    if let Some(hosts) = Hosts::find(&options.certs_dirs, namespace)? {
        return hosts
            .hosts
            .into_iter()
            .map(|listed| listed_candidate(options, listed, host, namespace))
            .collect();
    }
    let insecure = is_insecure(options, host);
    let https = Spot::new(&format!("https://{host}"), host, insecure);
    let mut endpoints = vec![endpoint(options, &https)?];
    if insecure {
        let http = Spot::new(&format!("http://{host}"), host, insecure);
        endpoints.push(endpoint(options, &http)?);
    }
    Ok(vec![Candidate {
        endpoints,
        mirror: false,
        resolve: true,
        pull: true,
        push: true,
        remote: None,
    }])
}

fn listed_candidate(
    options: &ClientOptions,
    listed: Host,
    host: &str,
    namespace: &str,
) -> Result<Candidate> {
    let own = listed.authority == host;
    let spot = Spot {
        base: listed.base,
        host: listed.authority,
        path: listed.path,
        namespace: (!own).then(|| namespace.to_owned()),
        insecure: listed.skip_verify,
        authorities: listed.ca,
        identity: listed.client.into_iter().next(),
        headers: listed.headers,
        dial_timeout: listed.dial_timeout,
    };
    Ok(Candidate {
        endpoints: vec![endpoint(options, &spot)?],
        mirror: !own,
        resolve: listed.resolve,
        pull: listed.pull,
        push: listed.push,
        remote: None,
    })
}

/// Mirrors of the longest prefix that the reference's name begins with. What follows the prefix
/// follows the mirror's path.
fn by_prefix(options: &ClientOptions, reference: &Reference) -> Result<Vec<Candidate>> {
    let name = reference.name();
    let rest = |prefix: &str| match name.strip_prefix(prefix)? {
        "" => Some(String::new()),
        rest => rest.strip_prefix('/').map(str::to_owned),
    };
    let chosen = options
        .prefix_mirrors
        .iter()
        .filter_map(|(prefix, mirrors)| Some((prefix, mirrors, rest(prefix)?)))
        .max_by_key(|(prefix, ..)| prefix.len());
    let Some((_, mirrors, rest)) = chosen else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for mirror in mirrors {
        let mut candidate = mirror_candidate(options, mirror, "/v2")?;
        let invalid = |why: String| {
            Error::new(
                ErrorKind::Invalid,
                format!("invalid mirror {mirror:?}: {why}"),
            )
        };
        let url = reqwest::Url::parse(mirror).map_err(|e| invalid(e.to_string()))?;
        let origin = url.origin().ascii_serialization();
        let above = url.path().trim_matches('/');
        let path = [above, &rest].into_iter().filter(|p| !p.is_empty());
        let path = path.collect::<Vec<_>>().join("/");
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        // A host without a dot or a port would be read as part of a path.
        let name = match host.contains(['.', ':']) || host == "localhost" {
            true => format!("{host}/{path}"),
            false => format!("{host}:443/{path}"),
        };
        let remote: Reference = name.parse().map_err(|e| invalid(format!("{e}")))?;
        candidate.remote = Some(match (reference.digest(), reference.tag()) {
            (Some(digest), _) => remote.with_digest(digest.clone()),
            (None, Some(tag)) => remote.with_tag(tag).map_err(|e| invalid(format!("{e}")))?,
            (None, None) => remote,
        });
        found.push(candidate);
    }
    Ok(found)
}

fn mirror_candidate(options: &ClientOptions, mirror: &str, path: &str) -> Result<Candidate> {
    let base = mirror.trim_end_matches('/');
    let (scheme, after) = base.split_once("://").unwrap_or(("https", base));
    let host = after.split('/').next().unwrap_or(after);
    let mut spot = Spot::new(
        &format!("{scheme}://{host}"),
        host,
        is_insecure(options, host),
    );
    spot.path = path.to_owned();
    Ok(Candidate {
        endpoints: vec![endpoint(options, &spot)?],
        mirror: true,
        resolve: true,
        pull: true,
        push: false,
        remote: None,
    })
}

/// What an endpoint is made from.
struct Spot {
    base: String,
    /// `host[:port]`.
    host: String,
    path: String,
    namespace: Option<String>,
    /// Whether any certificate will do.
    insecure: bool,
    authorities: Vec<PathBuf>,
    /// Certificate and key, where they are apart.
    identity: Option<(PathBuf, Option<PathBuf>)>,
    headers: HeaderMap,
    dial_timeout: Option<Duration>,
}

impl Spot {
    fn new(base: &str, host: &str, insecure: bool) -> Self {
        Self {
            base: base.to_owned(),
            host: host.to_owned(),
            path: "/v2".to_owned(),
            namespace: None,
            insecure,
            authorities: Vec::new(),
            identity: None,
            headers: HeaderMap::new(),
            dial_timeout: None,
        }
    }
}

fn endpoint(options: &ClientOptions, spot: &Spot) -> Result<Endpoint> {
    let client = |timeout: Option<Duration>, redirects| {
        let mut builder = http_client(options, spot)?.redirect(redirects);
        if let Some(timeout) = timeout {
            builder = builder.read_timeout(timeout);
        }
        builder.build().map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot make an HTTP client for {}: {e}", spot.host),
            )
        })
    };
    Ok(Endpoint {
        base: spot.base.clone(),
        path: spot.path.clone(),
        namespace: spot.namespace.clone(),
        headers: spot.headers.clone(),
        http: client(Some(READ_TIMEOUT), Policy::limited(10))?,
        uploads: client(None, Policy::limited(10))?,
        tokens: client(Some(READ_TIMEOUT), Policy::none())?,
    })
}

/// Whether `host[:port]` may be spoken to without TLS, or with a certificate nobody vouches for.
pub(crate) fn is_insecure(options: &ClientOptions, host: &str) -> bool {
    let name = without_port(host);
    let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    // As Docker has it since 29.10: who names registries has named loopback too, if it is meant.
    let loopback = name == "localhost" || address.is_some_and(|a| a.is_loopback());
    if loopback && options.insecure_registries.is_empty() {
        return true;
    }
    options.insecure_registries.iter().any(|entry| {
        let entry = entry
            .trim_start_matches("http://")
            .trim_start_matches("https://")
            .trim_end_matches('/');
        entry == host || address.is_some_and(|a| in_network(entry, a))
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// Whether `address` lies in the network `cidr` (`10.0.0.0/8`).
fn in_network(cidr: &str, address: IpAddr) -> bool {
    let Some((network, bits)) = cidr.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(n) & mask == u32::from(a) & mask
        }
        (IpAddr::V6(n), IpAddr::V6(a)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(n) & mask == u128::from(a) & mask
        }
        _ => false,
    }
}

fn http_client(options: &ClientOptions, spot: &Spot) -> Result<reqwest::ClientBuilder> {
    let mut builder = reqwest::Client::builder()
        .user_agent(options.user_agent.clone())
        .connect_timeout(spot.dial_timeout.unwrap_or(CONNECT_TIMEOUT))
        .tcp_user_timeout(READ_TIMEOUT)
        .no_proxy()
        .tls_danger_accept_invalid_certs(spot.insecure);
    let exempt = options
        .no_proxy
        .as_deref()
        .and_then(reqwest::NoProxy::from_string);
    for (url, all) in [(&options.http_proxy, false), (&options.https_proxy, true)] {
        let Some(url) = url.as_deref().filter(|u| !u.is_empty()) else {
            continue;
        };
        let proxy = if all {
            reqwest::Proxy::https(url)
        } else {
            reqwest::Proxy::http(url)
        }
        .map_err(|e| {
            Error::new(
                ErrorKind::Invalid,
                format!("invalid proxy URL {url:?}: {e}"),
            )
        })?;
        builder = builder.proxy(proxy.no_proxy(exempt.clone()));
    }
    for dir in &options.certs_dirs {
        builder = add_certificates(builder, &dir.join(&spot.host))?;
    }
    for path in &spot.authorities {
        builder = add_authority(builder, path)?;
    }
    if let Some((certificate, key)) = &spot.identity {
        builder = add_identity(builder, certificate, key.as_deref())?;
    }
    Ok(builder)
}

/// `*.crt` are authorities, `NAME.cert` with `NAME.key` is what we show (docker's certs.d layout).
fn add_certificates(
    mut builder: reqwest::ClientBuilder,
    dir: &Path,
) -> Result<reqwest::ClientBuilder> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(builder);
    };
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => builder = add_authority(builder, &path)?,
            Some("cert") => {
                let key = path.with_extension("key");
                builder = add_identity(builder, &path, Some(&key))?;
            }
            _ => {}
        }
    }
    Ok(builder)
}

fn invalid(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("{}: {why}", path.display()))
}

fn add_authority(builder: reqwest::ClientBuilder, path: &Path) -> Result<reqwest::ClientBuilder> {
    let pem = read_pem(path)?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| invalid(path, e))?;
    if certificates.is_empty() {
        return Err(invalid(path, "it holds no certificate"));
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// Without a key, it is in the same file.
fn add_identity(
    builder: reqwest::ClientBuilder,
    certificate: &Path,
    key: Option<&Path>,
) -> Result<reqwest::ClientBuilder> {
    let mut pem = read_pem(certificate)?;
    if let Some(key) = key {
        let key = read_pem(key)
            .map_err(|e| invalid(certificate, format!("missing key for the certificate: {e}")))?;
        pem.push(b'\n');
        pem.extend(key);
    }
    let identity = reqwest::Identity::from_pem(&pem).map_err(|e| invalid(certificate, e))?;
    Ok(builder.identity(identity))
}

fn read_pem(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut pem = Vec::new();
    fs::File::open(path)
        .and_then(|f| f.take(PEM_MAX).read_to_end(&mut pem))
        .map_err(|e| {
            Error::new(
                ErrorKind::Invalid,
                format!("cannot read {}: {e}", path.display()),
            )
        })?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_spoken_to_without_tls() {
        let options = ClientOptions {
            insecure_registries: vec![
                "reg.lan:5000".into(),
                "10.1.0.0/16".into(),
                "fd00::/8".into(),
            ],
            ..ClientOptions::default()
        };
        let alone = ClientOptions::default();
        for host in ["localhost", "localhost:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_insecure(&alone, host), "{host}");
            assert!(!is_insecure(&options, host), "{host}: not named");
        }
        for host in ["reg.lan:5000", "10.1.2.3:80", "[fd00::1]:5000"] {
            assert!(is_insecure(&options, host), "{host}");
        }
        for host in [
            "reg.lan",
            "reg.lan:5001",
            "10.2.0.1",
            "registry-1.docker.io",
            "localhost.example.org",
            "[fe80::1]",
        ] {
            assert!(!is_insecure(&options, host), "{host}");
        }
    }

    #[test]
    fn who_is_asked_and_in_which_order() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("quay.example/hosts.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(
            &file,
            "[host.\"http://m.example/v2/quay\"]\ncapabilities=[\"pull\"]\noverride_path=true\n",
        )
        .unwrap();
        let options = ClientOptions {
            mirrors: vec!["http://127.0.0.1:5001/".into()],
            prefix_mirrors: vec![
                ("ghcr.example".into(), vec!["https://wide.example".into()]),
                (
                    "ghcr.example/team".into(),
                    vec!["https://near.example:8443/cache".into()],
                ),
            ],
            certs_dirs: vec![dir.path().to_owned()],
            ..ClientOptions::default()
        };
        let asked = |name: &str| -> Vec<String> {
            let reference: Reference = name.parse().unwrap();
            let path = reference.path().to_owned();
            candidates(&options, &reference)
                .unwrap()
                .iter()
                .flat_map(|c| {
                    let path = c.remote.as_ref().map_or(&path[..], |r| r.path());
                    let ways = c.endpoints.iter();
                    ways.map(move |e| format!("{}{}/{path}", e.base, e.path))
                })
                .collect()
        };
        assert_eq!(
            asked("alpine"),
            [
                "http://127.0.0.1:5001/v2/library/alpine",
                "https://registry-1.docker.io/v2/library/alpine"
            ]
        );
        assert_eq!(
            asked("quay.example/a/b"),
            [
                "http://m.example/v2/quay/a/b",
                "https://quay.example/v2/a/b"
            ]
        );
        assert_eq!(
            asked("localhost:5000/x"),
            ["https://localhost:5000/v2/x", "http://localhost:5000/v2/x"]
        );
        assert_eq!(
            asked("ghcr.example/team/app:1"),
            [
                "https://near.example:8443/v2/cache/app",
                "https://ghcr.example/v2/team/app"
            ]
        );
        assert_eq!(
            asked("ghcr.example/teams/app"),
            [
                "https://wide.example/v2/teams/app",
                "https://ghcr.example/v2/teams/app"
            ]
        );
        let reference: Reference = "quay.example/a/b".parse().unwrap();
        let found = candidates(&options, &reference).unwrap();
        assert!(found[0].mirror && found[0].pull && !found[0].resolve && !found[0].push);
        assert_eq!(
            found[0].endpoints[0].namespace.as_deref(),
            Some("quay.example")
        );
        assert!(!found[1].mirror && found[1].endpoints[0].namespace.is_none());
    }
}
