//! Credentials of the API's headers, as the distribution client takes them.

use berth_distribution::{Credentials, Secret};
use berth_spec::docker::AuthConfig;
use berth_spec::docker::auth::decode_auth;
use http::HeaderMap;

use crate::error::{ApiError, Reply};

/// The `X-Registry-Auth` header.
pub fn from_headers(headers: &HeaderMap) -> Reply<Option<Credentials>> {
    let Some(value) = headers.get("X-Registry-Auth") else {
        return Ok(None);
    };
    let auth = decode_auth(value.to_str().unwrap_or_default())
        .map_err(|e| ApiError::bad_request(e.to_string()))?;
    Ok(auth.map(from_config).filter(|c| !c.is_empty()))
}

/// One entry. `auth` is base64 of `user:password`, as `config.json` keeps it.
pub fn from_config(config: AuthConfig) -> Credentials {
    let (mut username, mut password) = (config.username, config.password);
    if username.is_empty()
        && let Ok(bytes) = data_encoding::BASE64.decode(config.auth.trim().as_bytes())
        && let Some((user, secret)) = String::from_utf8_lossy(&bytes).split_once(':')
    {
        username = user.to_owned();
        password = secret.trim_end_matches('\0').to_owned();
    }
    Credentials {
        username,
        password: Secret::new(password),
        identity_token: Secret::new(config.identitytoken),
        registry_token: Secret::new(config.registrytoken),
    }
}
