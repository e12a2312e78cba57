//! One registry, reached: requests with the credentials it wants, answers with a size limit.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use crate::challenge::{self, Challenge};
use crate::endpoint::{self, Endpoint};
use crate::{ClientOptions, Credentials, Error, ErrorKind, Result, Secret};

/// Bytes of an error or token document that are read at most.
const SMALL_MAX: u64 = 1 << 20;
/// A token without a lifetime is good for this long (distribution's token.md).
const TOKEN_LIFE: u64 = 60;

/// A connection to one registry, for as many requests as needed.
pub(crate) struct Registry {
    endpoint: Endpoint,
    host: String,
    credentials: Option<Credentials>,
    insecure: bool,
    state: Mutex<AuthState>,
}

#[derive(Default)]
struct AuthState {
    challenge: Option<Challenge>,
    /// By scope.
    tokens: HashMap<String, Token>,
}

#[derive(Clone)]
struct Token {
    value: Secret,
    expires: Instant,
}

/// What a token service answers.
#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// A token, and the refresh token that came with it.
pub(crate) struct Granted {
    value: Secret,
    life: u64,
    pub(crate) refresh: Option<Secret>,
}

impl Registry {
    /// Connects to `host`, by its mirrors first if `with_mirrors`, and learns what it wants.
    pub(crate) async fn connect(
        options: &ClientOptions,
        host: &str,
        credentials: Option<&Credentials>,
        with_mirrors: bool,
    ) -> Result<Self> {
        let mut last = None;
        for endpoint in endpoint::endpoints(options, host, with_mirrors)? {
            let url = format!("{}/v2/", endpoint.base);
            match endpoint.http.get(&url).send().await {
                Ok(response) => {
                    let mirror = endpoint.mirror;
                    let registry = Registry {
                        insecure: endpoint::is_insecure(options, host),
                        host: host.to_owned(),
                        credentials: credentials.filter(|c| !mirror && !c.is_empty()).cloned(),
                        state: Mutex::default(),
                        endpoint,
                    };
                    registry.learn(&response);
                    match response.status() {
                        s if s.is_success() || s == StatusCode::UNAUTHORIZED => {
                            return Ok(registry);
                        }
                        s => {
                            last = Some(Error::new(
                                ErrorKind::Unavailable,
                                format!("Get \"{url}\": the registry answered {s}"),
                            ))
                        }
                    }
                }
                Err(e) => {
                    tracing::debug!(%url, error = %e, "registry endpoint does not answer");
                    let error = unreachable(&format!("Get \"{url}\""), e);
                    // The first reason is the one about TLS; http is tried behind it.
                    last = Some(last.unwrap_or(error));
                }
            }
        }
        Err(last
            .unwrap_or_else(|| Error::new(ErrorKind::Internal, format!("no endpoint for {host}"))))
    }

    /// `host[:port]` as the reference names it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether a mirror answered in the registry's place.
    pub(crate) fn is_mirror(&self) -> bool {
        self.endpoint.mirror
    }

    /// An absolute URL for `location`, which may be a path.
    pub(crate) fn url(&self, location: &str) -> String {
        if location.contains("://") {
            location.to_owned()
        } else {
            format!("{}{location}", self.endpoint.base)
        }
    }

    /// Sends a request built by `configure`, answering the registry's challenge once. `scope` is
    /// what a token must allow, e.g. `repository:library/python:pull`.
    pub(crate) async fn send(
        &self,
        method: Method,
        location: &str,
        scope: &str,
        configure: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let url = self.url(location);
        for attempt in 0..2 {
            let mut request = configure(self.endpoint.http.request(method.clone(), &url));
            // Upload locations may lie on another host, which gets no credentials.
            if url.starts_with(&format!("{}/", self.endpoint.base)) {
                request = self.authorize(request, scope).await?;
            }
            let response = request
                .send()
                .await
                .map_err(|e| unreachable(&format!("{method} \"{url}\""), e))?;
            if response.status() != StatusCode::UNAUTHORIZED || attempt == 1 {
                return Ok(response);
            }
            self.learn(&response);
            self.lock().tokens.remove(scope);
        }
        Err(Error::new(
            ErrorKind::Internal,
            "a request was tried no time at all",
        ))
    }

    /// Asks for a token or checks the password: what `login` needs.
    pub(crate) async fn login(&self) -> Result<Option<Secret>> {
        let challenge = self.lock().challenge.clone();
        let granted = match challenge {
            Some(Challenge::Bearer { realm, service, .. }) => Some(
                self.fetch_token(&realm, service.as_deref(), "", true)
                    .await?,
            ),
            _ => None,
        };
        if let Some(granted) = &granted {
            self.keep("", granted);
        }
        let response = self.send(Method::GET, "/v2/", "", |r| r).await?;
        if response.status().is_success() {
            Ok(granted.and_then(|g| g.refresh))
        } else {
            Err(failure("login attempt", response).await)
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AuthState> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn learn(&self, response: &Response) {
        let headers = response.headers().get_all("www-authenticate");
        let found: Vec<_> = headers
            .iter()
            .filter_map(|h| challenge::parse(h.to_str().ok()?))
            .collect();
        let best = found
            .iter()
            .find(|c| matches!(c, Challenge::Bearer { .. }))
            .or(found.first());
        if let Some(challenge) = best {
            self.lock().challenge = Some(challenge.clone());
        }
    }

    async fn authorize(&self, request: RequestBuilder, scope: &str) -> Result<RequestBuilder> {
        if let Some(given) = self
            .credentials
            .as_ref()
            .filter(|c| !c.registry_token.is_empty())
        {
            return Ok(request.bearer_auth(given.registry_token.expose()));
        }
        let (challenge, cached) = {
            let state = self.lock();
            let cached = state
                .tokens
                .get(scope)
                .filter(|t| t.expires > Instant::now())
                .cloned();
            (state.challenge.clone(), cached)
        };
        match challenge {
            None => Ok(request),
            Some(Challenge::Basic) => Ok(match &self.credentials {
                Some(c) => request.basic_auth(&c.username, Some(c.password.expose())),
                None => request,
            }),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let token = match cached {
                    Some(token) => token.value,
                    None => {
                        let granted = self
                            .fetch_token(&realm, service.as_deref(), scope, false)
                            .await?;
                        self.keep(scope, &granted)
                    }
                };
                Ok(request.bearer_auth(token.expose()))
            }
        }
    }

    fn keep(&self, scope: &str, granted: &Granted) -> Secret {
        // Renewed a little early, so that a token does not end on its way.
        let life = Duration::from_secs(granted.life.saturating_sub(5).max(1));
        let token = Token {
            value: granted.value.clone(),
            expires: Instant::now() + life,
        };
        self.lock().tokens.insert(scope.to_owned(), token);
        granted.value.clone()
    }

    /// Gets a token from `realm` (distribution's token.md, oauth.md).
    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        offline: bool,
    ) -> Result<Granted> {
        let credentials = self.credentials.as_ref();
        if credentials.is_some() && !self.may_trust(realm) {
            return Err(Error::new(
                ErrorKind::Unauthorized,
                format!(
                    "{} names the token service {realm}, which is not reached by https: refusing to send credentials there",
                    self.host
                ),
            ));
        }
        let mut query: Vec<(&str, &str)> = Vec::new();
        query.extend(service.map(|s| ("service", s)));
        query.extend((!scope.is_empty()).then_some(("scope", scope)));
        query.push(("client_id", "berth"));
        let request = match credentials.filter(|c| !c.identity_token.is_empty()) {
            Some(c) => {
                query.extend([
                    ("grant_type", "refresh_token"),
                    ("refresh_token", c.identity_token.expose()),
                ]);
                self.endpoint
                    .http
                    .post(realm)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form(&query))
            }
            None => {
                query.extend(offline.then_some(("offline_token", "true")));
                query.extend(credentials.map(|c| ("account", &c.username[..])));
                let separator = if realm.contains('?') { '&' } else { '?' };
                let request = self
                    .endpoint
                    .http
                    .get(format!("{realm}{separator}{}", form(&query)));
                match credentials {
                    Some(c) => request.basic_auth(&c.username, Some(c.password.expose())),
                    None => request,
                }
            }
        };
        let response = request
            .send()
            .await
            .map_err(|e| unreachable(&format!("Get \"{realm}\""), e))?;
        if !response.status().is_success() {
            return Err(failure(&format!("token service {realm}"), response).await);
        }
        let body = read_capped(response, SMALL_MAX).await?;
        let reply: TokenReply = serde_json::from_slice(&body)
            .map_err(|e| Error::new(ErrorKind::Invalid, format!("token service {realm}: {e}")))?;
        let value = reply
            .token
            .or(reply.access_token)
            .filter(|t| !t.is_empty())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unauthorized,
                    format!("token service {realm} gave no token"),
                )
            })?;
        Ok(Granted {
            value: Secret::new(value),
            life: reply.expires_in.unwrap_or(TOKEN_LIFE).max(TOKEN_LIFE),
            refresh: reply
                .refresh_token
                .filter(|t| !t.is_empty())
                .map(Secret::new),
        })
    }

    /// Credentials go to a token service by https, or by http only on the registry's own host where
    /// that itself is spoken to by http.
    fn may_trust(&self, realm: &str) -> bool {
        let Ok(url) = reqwest::Url::parse(realm) else {
            return false;
        };
        if url.scheme() == "https" {
            return true;
        }
        let ours = reqwest::Url::parse(&self.endpoint.base);
        self.insecure && ours.is_ok_and(|o| o.scheme() == "http" && o.host_str() == url.host_str())
    }
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

/// The body, or an error where it is longer than `limit` bytes.
pub(crate) async fn read_capped(mut response: Response, limit: u64) -> Result<Vec<u8>> {
    let url = response.url().to_string();
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| unreachable(&format!("Get \"{url}\""), e))?
    {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{url}: the answer is longer than {limit} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A failure to speak at all, with its innermost reason.
pub(crate) fn unreachable(what: &str, error: reqwest::Error) -> Error {
    let mut reason = String::new();
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    if reason.is_empty() {
        reason = error.to_string();
    }
    let what_failed = if error.is_timeout() {
        "timed out"
    } else {
        &reason
    };
    Error::new(ErrorKind::Unavailable, format!("{what}: {what_failed}")).with_source(error)
}

/// Errors as a registry words them (distribution-spec, "Error Codes").
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What an answer that is no success means.
pub(crate) async fn failure(what: &str, response: Response) -> Error {
    let status = response.status();
    let body = read_capped(response, SMALL_MAX).await.unwrap_or_default();
    let said = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) if !body.errors.is_empty() => body
            .errors
            .iter()
            .map(
                |e| match (e.code.to_lowercase().replace('_', " "), &e.message) {
                    (code, message) if message.is_empty() => code,
                    (code, message) => format!("{code}: {message}"),
                },
            )
            .collect::<Vec<_>>()
            .join("\n"),
        _ => format!("the registry answered {status}"),
    };
    let kind = match status {
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Unauthorized,
        s if s.is_client_error() && s != StatusCode::TOO_MANY_REQUESTS => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    Error::new(
        kind,
        if what.is_empty() {
            said
        } else {
            format!("{what}: {said}")
        },
    )
}
