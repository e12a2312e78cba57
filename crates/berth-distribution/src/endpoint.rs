//! Where a registry answers and how it may be spoken to: mirrors, TLS, plain http, proxies.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;

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
    pub(crate) http: reqwest::Client,
    /// The same, for requests with a long body: it takes what time it takes, as long as the other
    /// side acknowledges bytes.
    pub(crate) uploads: reqwest::Client,
    /// The same, but for token services: follows no redirect, so that credentials stay where they
    /// were meant to go.
    pub(crate) tokens: reqwest::Client,
    /// Whether this is a mirror, which never sees the registry's credentials.
    pub(crate) mirror: bool,
}

/// The endpoints for `host`, the one to ask first first.
pub(crate) fn endpoints(
    options: &ClientOptions,
    host: &str,
    with_mirrors: bool,
) -> Result<Vec<Endpoint>> {
    let mut found = Vec::new();
    if with_mirrors && host == berth_spec::reference::DEFAULT_REGISTRY {
        for mirror in &options.mirrors {
            let base = mirror.trim_end_matches('/').to_owned();
            let mirror_host = base
                .split_once("://")
                .map_or(&base[..], |(_, h)| h)
                .to_owned();
            let insecure = is_insecure(options, &mirror_host);
            found.push(endpoint(options, &mirror_host, base, insecure, true)?);
        }
    }
    let insecure = is_insecure(options, host);
    let https = format!("https://{host}");
    found.push(endpoint(options, host, https, insecure, false)?);
    if insecure {
        let http = format!("http://{host}");
        found.push(endpoint(options, host, http, insecure, false)?);
    }
    Ok(found)
}

fn endpoint(
    options: &ClientOptions,
    host: &str,
    base: String,
    insecure: bool,
    mirror: bool,
) -> Result<Endpoint> {
    let client = |timeout: Option<Duration>, redirects| {
        let mut builder = http_client(options, host, insecure)?.redirect(redirects);
        if let Some(timeout) = timeout {
            builder = builder.read_timeout(timeout);
        }
        builder.build().map_err(|e| {
            Error::new(
                ErrorKind::Internal,
                format!("cannot make an HTTP client for {host}: {e}"),
            )
        })
    };
    Ok(Endpoint {
        base,
        http: client(Some(READ_TIMEOUT), Policy::limited(10))?,
        uploads: client(None, Policy::limited(10))?,
        tokens: client(Some(READ_TIMEOUT), Policy::none())?,
        mirror,
    })
}

/// Whether `host[:port]` may be spoken to without TLS, or with a certificate nobody vouches for.
pub(crate) fn is_insecure(options: &ClientOptions, host: &str) -> bool {
    let name = without_port(host);
    let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    if name == "localhost" || address.is_some_and(|a| a.is_loopback()) {
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

fn http_client(
    options: &ClientOptions,
    host: &str,
    insecure: bool,
) -> Result<reqwest::ClientBuilder> {
    let mut builder = reqwest::Client::builder()
        .user_agent(options.user_agent.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(READ_TIMEOUT)
        .no_proxy()
        .tls_danger_accept_invalid_certs(insecure);
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
        builder = add_certificates(builder, &dir.join(host))?;
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
    let invalid = |path: &Path, why: String| {
        Error::new(ErrorKind::Invalid, format!("{}: {why}", path.display()))
    };
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => {
                let pem = read_pem(&path)?;
                let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                    .map_err(|e| invalid(&path, e.to_string()))?;
                if certificates.is_empty() {
                    return Err(invalid(&path, "it holds no certificate".into()));
                }
                builder = builder.tls_certs_merge(certificates);
            }
            Some("cert") => {
                let key = path.with_extension("key");
                let mut pem = read_pem(&path)?;
                pem.push(b'\n');
                pem.extend(read_pem(&key).map_err(|e| {
                    invalid(&path, format!("missing key for the certificate: {e}"))
                })?);
                let identity =
                    reqwest::Identity::from_pem(&pem).map_err(|e| invalid(&path, e.to_string()))?;
                builder = builder.identity(identity);
            }
            _ => {}
        }
    }
    Ok(builder)
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
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "reg.lan:5000",
            "10.1.2.3:80",
            "[fd00::1]:5000",
        ] {
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
    fn mirrors_come_first_and_for_the_default_registry_only() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let options = ClientOptions {
            mirrors: vec!["http://127.0.0.1:5001/".into()],
            ..ClientOptions::default()
        };
        let bases = |host| -> Vec<String> {
            endpoints(&options, host, true)
                .unwrap()
                .into_iter()
                .map(|e| e.base)
                .collect()
        };
        assert_eq!(
            bases("registry-1.docker.io"),
            ["http://127.0.0.1:5001", "https://registry-1.docker.io"]
        );
        assert_eq!(bases("quay.example"), ["https://quay.example"]);
        assert_eq!(
            bases("localhost:5000"),
            ["https://localhost:5000", "http://localhost:5000"]
        );
    }
}
