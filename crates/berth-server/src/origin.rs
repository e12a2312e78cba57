//! Who may not ask: pages in a browser. A page of another site sends an `Origin`; one that
//! rebinds its own name to this machine's address sends that name as `Host`.

use std::net::IpAddr;

use http::{HeaderMap, StatusCode, header};

use crate::error::ApiError;

/// Which `Host` values a listener answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Any: a Unix socket cannot be reached by a page, and a TLS client shows a certificate.
    Any,
    /// Addresses, `localhost` and these names.
    Names(Vec<String>),
}

/// Refuses a request that a browser sends on a page's behalf.
pub fn check(headers: &HeaderMap, hosts: &AllowedHosts) -> Result<(), ApiError> {
    if let Some(origin) = headers.get(header::ORIGIN) {
        return Err(refused(
            "Origin",
            &String::from_utf8_lossy(origin.as_bytes()),
        ));
    }
    let AllowedHosts::Names(names) = hosts else {
        return Ok(());
    };
    let host = headers
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
        .unwrap_or_default();
    let name = without_port(host);
    let known = name.is_empty()
        || name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|n| n.eq_ignore_ascii_case(name));
    if known {
        Ok(())
    } else {
        Err(refused("Host", host))
    }
}

fn refused(what: &str, value: &str) -> ApiError {
    let value: String = value.chars().take(100).collect();
    ApiError::new(
        StatusCode::FORBIDDEN,
        format!("{what} {value:?} is not allowed to use this engine's API"),
    )
}

/// `name:port`, `[v6]:port`, `name`: the name alone.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn browsers_are_refused() {
        let named = AllowedHosts::Names(vec!["box".into()]);
        assert!(
            check(
                &headers(header::ORIGIN, "https://evil.example"),
                &AllowedHosts::Any
            )
            .is_err()
        );
        assert!(check(&headers(header::ORIGIN, "null"), &named).is_err());
        assert!(check(&headers(header::HOST, "evil.example:2375"), &named).is_err());
        for good in [
            "localhost:2375",
            "127.0.0.1:2375",
            "[::1]:2375",
            "box:2375",
            "BOX",
        ] {
            assert!(
                check(&headers(header::HOST, good), &named).is_ok(),
                "{good}"
            );
        }
        assert!(
            check(
                &headers(header::HOST, "api.moby.localhost"),
                &AllowedHosts::Any
            )
            .is_ok()
        );
    }
}
