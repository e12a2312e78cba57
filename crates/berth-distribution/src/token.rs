//! Tokens from a registry's token service (distribution's token.md and oauth.md).

use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;

use crate::failure::{Failure, SMALL_MAX, read_capped, unreachable};
use crate::{Credentials, Error, ErrorKind, Result, Secret};

/// A token without a lifetime is good for this many seconds, and none is taken to live shorter.
const TOKEN_LIFE: u64 = 60;
/// No token is trusted longer, in seconds, whatever its service says.
const TOKEN_LIFE_MAX: u64 = 24 * 60 * 60;

/// A token in use.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    pub(crate) expires: Instant,
}

/// A token, and the refresh token that came with it.
pub(crate) struct Granted {
    pub(crate) token: Token,
    pub(crate) refresh: Option<Secret>,
}

/// What a token service answers.
#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// What to ask a token service for.
pub(crate) struct TokenRequest<'a> {
    pub(crate) realm: &'a str,
    pub(crate) service: Option<&'a str>,
    /// Scopes, separated by spaces; empty for none.
    pub(crate) scope: &'a str,
    pub(crate) credentials: Option<&'a Credentials>,
    /// Whether to ask for a refresh token too.
    pub(crate) offline: bool,
}

/// Gets a token. `http` must not follow redirects: credentials go to the realm and nowhere else.
pub(crate) async fn fetch(http: &reqwest::Client, ask: TokenRequest<'_>) -> Result<Granted> {
    let realm = ask.realm;
    let mut query: Vec<(&str, &str)> = Vec::new();
    query.extend(ask.service.map(|s| ("service", s)));
    query.extend(ask.scope.split_whitespace().map(|scope| ("scope", scope)));
    query.push(("client_id", "berth"));
    let (method, request) = match ask.credentials.filter(|c| !c.identity_token.is_empty()) {
        Some(c) => {
            // OAuth2 has one `scope` with spaces in it.
            query.retain(|(name, _)| *name != "scope");
            query.extend((!ask.scope.is_empty()).then_some(("scope", ask.scope)));
            query.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", c.identity_token.expose()),
            ]);
            let request = http
                .post(realm)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form(&query));
            (Method::POST, request)
        }
        None => {
            query.extend(ask.offline.then_some(("offline_token", "true")));
            query.extend(ask.credentials.map(|c| ("account", &c.username[..])));
            let separator = if realm.contains('?') { '&' } else { '?' };
            let request = http.get(format!("{realm}{separator}{}", form(&query)));
            let request = match ask.credentials {
                Some(c) => request.basic_auth(&c.username, Some(c.password.expose())),
                None => request,
            };
            (Method::GET, request)
        }
    };
    let response = request
        .send()
        .await
        .map_err(|e| unreachable(&method, realm, e))?;
    if !response.status().is_success() {
        let failure = Failure::read(response).await;
        return Err(failure.into_error(&format!("Get \"{realm}\"")));
    }
    let body = read_capped(response, SMALL_MAX).await?;
    let reply: TokenReply = serde_json::from_slice(&body)
        .map_err(|e| Error::new(ErrorKind::Invalid, format!("token service {realm}: {e}")))?;
    granted(reply).ok_or_else(|| {
        Error::new(
            ErrorKind::Unauthorized,
            format!("token service {realm} gave no token"),
        )
    })
}

fn granted(reply: TokenReply) -> Option<Granted> {
    let value = reply
        .token
        .into_iter()
        .chain(reply.access_token)
        .find(|t| !t.is_empty())?;
    let life = reply
        .expires_in
        .unwrap_or(TOKEN_LIFE)
        .clamp(TOKEN_LIFE, TOKEN_LIFE_MAX);
    Some(Granted {
        token: Token {
            value: Secret::new(value),
            // Renewed a little early, so that a token does not end on its way.
            expires: Instant::now() + Duration::from_secs(life - 5),
        },
        refresh: reply
            .refresh_token
            .filter(|t| !t.is_empty())
            .map(Secret::new),
    })
}

/// `a=b&c=d`, percent-encoded.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(&mut out, name);
        out.push('=');
        encode(&mut out, value);
    }
    out
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char)
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            form(&[("scope", "repository:a/b:pull"), ("x", "a b&=é")]),
            "scope=repository%3Aa%2Fb%3Apull&x=a%20b%26%3D%C3%A9"
        );
    }

    #[test]
    fn replies_have_a_token_or_are_none() {
        let reply = |text: &str| granted(serde_json::from_str(text).unwrap());
        let life = |g: Granted| (g.token.expires - Instant::now()).as_secs();
        assert!(reply("{}").is_none());
        assert!(reply(r#"{"token":""}"#).is_none());
        assert_eq!(
            reply(r#"{"token":"","access_token":"b"}"#)
                .unwrap()
                .token
                .value
                .expose(),
            "b"
        );
        assert!(life(reply(r#"{"token":"a","expires_in":1}"#).unwrap()) >= 54);
        assert!(life(reply(r#"{"token":"a","expires_in":99999999999}"#).unwrap()) <= 86_400);
        let both = reply(r#"{"token":"a","refresh_token":"r"}"#).unwrap();
        assert_eq!(both.refresh.unwrap().expose(), "r");
    }
}
