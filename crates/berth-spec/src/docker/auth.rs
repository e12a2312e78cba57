//! Registry credentials as clients send them.

use std::collections::BTreeMap;

wire! {
    /// Body of `POST /auth` and, in URL-safe base64, of the `X-Registry-Auth` header.
    #[serde(rename_all = "lowercase")]
    pub struct AuthConfig {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub username: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub password: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub auth: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub email: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub serveraddress: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub identitytoken: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub registrytoken: String,
    }

    /// Answer of `POST /auth`.
    #[serde(rename_all = "PascalCase")]
    pub struct AuthResponse {
        pub status: String,
        pub identity_token: String,
    }
}

/// The `X-Registry-Config` header of a build: registry host to credentials.
pub type RegistryConfigs = BTreeMap<String, AuthConfig>;

/// Why a credentials header was refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The header is not URL-safe base64.
    #[error("invalid {header} header: {source}")]
    Base64 {
        /// Which header.
        header: &'static str,
        /// What the decoder said.
        source: data_encoding::DecodeError,
    },
    /// The decoded text is not the JSON expected.
    #[error("invalid {header} header: {source}")]
    Json {
        /// Which header.
        header: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// Encodes credentials for `X-Registry-Auth` or `X-Registry-Config`.
pub fn encode_header<T: serde::Serialize>(value: &T) -> String {
    // These types hold strings and maps of strings only; writing them cannot fail.
    let json = serde_json::to_vec(value).unwrap_or_default();
    data_encoding::BASE64URL.encode(&json)
}

/// Decodes an `X-Registry-Auth` header. Empty text is "no credentials".
pub fn decode_auth(text: &str) -> Result<Option<AuthConfig>, HeaderError> {
    let auth: Option<AuthConfig> = decode("X-Registry-Auth", text)?;
    Ok(auth.filter(|auth| *auth != AuthConfig::default()))
}

/// Decodes an `X-Registry-Config` header. Empty text is "no credentials".
pub fn decode_configs(text: &str) -> Result<RegistryConfigs, HeaderError> {
    Ok(decode("X-Registry-Config", text)?.unwrap_or_default())
}

fn decode<T: serde::de::DeserializeOwned>(
    header: &'static str,
    text: &str,
) -> Result<Option<T>, HeaderError> {
    let text = text.trim().trim_end_matches('=');
    if text.is_empty() {
        return Ok(None);
    }
    // Some clients send the standard alphabet; the two differ in two letters only.
    let url_safe: String = text
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    let json = data_encoding::BASE64URL_NOPAD
        .decode(url_safe.as_bytes())
        .map_err(|source| HeaderError::Base64 { header, source })?;
    serde_json::from_slice(&json).map_err(|source| HeaderError::Json { header, source })
}
