//! One registry, reached: requests with the credentials it wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use berth_spec::Reference;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use crate::challenge::{self, Challenge};
use crate::client::Shared;
use crate::endpoint::{self, Candidate, Endpoint};
use crate::failure::{Failure, title, unreachable};
use crate::token::{self, Granted, Token, TokenRequest};
use crate::{Credentials, Error, ErrorKind, Result, Secret};

/// A connection to one registry, for as many requests as needed.
pub(crate) struct Registry {
    client: Arc<Shared>,
    endpoint: Endpoint,
    mirror: bool,
    /// What the reference is called here, if not by its own repository.
    remote: Option<Reference>,
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

impl Registry {
    /// Connects to the first that can tell what `reference` stands for: a mirror, or the registry.
    pub(crate) async fn resolving(
        client: &Arc<Shared>,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Self> {
        let host = reference.registry_host();
        let candidates = endpoint::candidates(&client.options, reference)?;
        let able = candidates.into_iter().filter(|c| c.resolve);
        Self::first(client, able, host, credentials).await
    }

    /// Connects to the one that takes what is sent under `reference`.
    pub(crate) async fn pushing(
        client: &Arc<Shared>,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Self> {
        let host = reference.registry_host();
        let candidates = endpoint::of_host(&client.options, host)?;
        let able = candidates.into_iter().filter(|c| c.push).take(1);
        Self::first(client, able, host, credentials).await
    }

    /// Connects to the registry `host` itself.
    pub(crate) async fn of_host(
        client: &Arc<Shared>,
        host: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Self> {
        let itself = endpoint::of_host(&client.options, host)?.pop();
        Self::first(client, itself.into_iter(), host, credentials).await
    }

    async fn first(
        client: &Arc<Shared>,
        candidates: impl Iterator<Item = Candidate>,
        host: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Self> {
        let mut last = None;
        for candidate in candidates {
            match Self::reach(client, candidate, host, credentials).await {
                Ok(registry) => return Ok(registry),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            let why = format!("hosts.toml lets nobody do this for {host}");
            Error::new(ErrorKind::Invalid, why)
        }))
    }

    /// Connects to `candidate` in the name of the registry `host`, and learns what it wants.
    pub(crate) async fn reach(
        client: &Arc<Shared>,
        candidate: Candidate,
        host: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Self> {
        let mirror = candidate.mirror;
        let mut last = None;
        for endpoint in candidate.endpoints {
            let registry = Registry {
                client: client.clone(),
                mirror,
                remote: candidate.remote.clone(),
                insecure: endpoint::is_insecure(&client.options, host),
                host: host.to_owned(),
                credentials: credentials.filter(|c| !mirror && !c.is_empty()).cloned(),
                state: Mutex::default(),
                endpoint,
            };
            // A part of a registry has no page that tells what the whole wants.
            if !registry.endpoint.path.ends_with("/v2") {
                return Ok(registry);
            }
            let url = registry.url("/v2/");
            let request = registry.endpoint.http.get(&url);
            let request = request.headers(registry.endpoint.headers.clone());
            let response = match request.send().await {
                Ok(response) => response,
                Err(e) => {
                    let error = unreachable(&Method::GET, &url, e);
                    tracing::debug!(%url, %error, "registry endpoint does not answer");
                    last = Some(error);
                    continue;
                }
            };
            registry.learn(&response);
            if response.status().is_success() || response.status() == StatusCode::UNAUTHORIZED {
                return Ok(registry);
            }
            let failure = Failure::read(response).await;
            last = Some(failure.into_error(&format!("Get \"{url}\"")));
        }
        Err(last
            .unwrap_or_else(|| Error::new(ErrorKind::Internal, format!("no endpoint for {host}"))))
    }

    /// What `reference` is called here.
    pub(crate) fn name<'a>(&'a self, reference: &'a Reference) -> &'a Reference {
        self.remote.as_ref().unwrap_or(reference)
    }

    /// An absolute URL for `location`: an absolute one, or a path that begins with `/v2/`, in whose
    /// place this registry may have another.
    pub(crate) fn url(&self, location: &str) -> String {
        if location.contains("://") {
            return location.to_owned();
        }
        let Endpoint { base, path, .. } = &self.endpoint;
        let Some(rest) = location.strip_prefix("/v2/") else {
            return format!("{base}{location}");
        };
        let mut url = format!("{base}{path}/{rest}");
        if let Some(namespace) = &self.endpoint.namespace {
            url.push(if rest.contains('?') { '&' } else { '?' });
            url.push_str(&token::form(&[("ns", namespace)]));
        }
        url
    }

    /// Sends a request built by `configure`, answering the registry's challenge once. `scope` is
    /// what a token must allow, e.g. `repository:library/python:pull`; several have a space between.
    pub(crate) async fn send(
        &self,
        method: Method,
        location: &str,
        scope: &str,
        configure: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response> {
        let url = self.url(location);
        let mut answered = false;
        loop {
            let http = match method {
                Method::PUT | Method::PATCH => &self.endpoint.uploads,
                _ => &self.endpoint.http,
            };
            let mut request = configure(http.request(method.clone(), &url));
            // Upload locations may lie on another host, which gets no credentials.
            if url.starts_with(&format!("{}/", self.endpoint.base)) {
                request = request.headers(self.endpoint.headers.clone());
                request = self.authorize(request, scope).await?;
            }
            let response = request
                .send()
                .await
                .map_err(|e| unreachable(&method, &url, e))?;
            if !self.mirror {
                let registry = match &self.host[..] {
                    berth_spec::reference::DEFAULT_REGISTRY => "docker.io",
                    host => host,
                };
                self.client.quotas.note(registry, &response);
            }
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            self.learn(&response);
            if self.credentials.is_none() && self.wants_password() {
                return Err(Error::new(
                    ErrorKind::Unauthorized,
                    format!("{} \"{url}\": no basic auth credentials", title(&method)),
                ));
            }
            if answered {
                return Ok(response);
            }
            answered = true;
            self.lock().tokens.remove(scope);
        }
    }

    /// Asks for a token or checks the password: what `login` needs. Returns a refresh token where
    /// the token service gives one.
    pub(crate) async fn login(&self) -> Result<Option<Secret>> {
        let challenge = self.lock().challenge.clone();
        let mut refresh = None;
        if let Some(Challenge::Bearer { realm, service, .. }) = challenge {
            let granted = self
                .fetch_token(&realm, service.as_deref(), "", true)
                .await?;
            refresh = granted.refresh;
            self.lock().tokens.insert(String::new(), granted.token);
        }
        let url = self.url("/v2/");
        let response = self.send(Method::GET, &url, "", |r| r).await?;
        match response.status() {
            s if s.is_success() => Ok(refresh),
            s @ StatusCode::UNAUTHORIZED => Err(Error::new(
                ErrorKind::Unauthorized,
                format!("login attempt to {url} failed with status: {s}"),
            )),
            _ => Err(Failure::read(response)
                .await
                .into_error(&format!("Get \"{url}\""))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AuthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants_password(&self) -> bool {
        matches!(self.lock().challenge, Some(Challenge::Basic))
    }

    /// Keeps the challenge of an answer that came from the registry itself; one that a redirect led
    /// to elsewhere has no say in where credentials go.
    fn learn(&self, response: &Response) {
        let ours = Url::parse(&self.endpoint.base)
            .is_ok_and(|base| base.origin() == response.url().origin());
        if !ours {
            return;
        }
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
                    Some(token) => token,
                    None => {
                        let granted = self
                            .fetch_token(&realm, service.as_deref(), scope, false)
                            .await?;
                        let mut state = self.lock();
                        state.tokens.insert(scope.to_owned(), granted.token.clone());
                        granted.token
                    }
                };
                Ok(request.bearer_auth(token.value.expose()))
            }
        }
    }

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
        let ask = TokenRequest {
            realm,
            service,
            scope,
            credentials,
            offline,
        };
        token::fetch(&self.endpoint.tokens, ask).await
    }

    /// Credentials go to a token service by https, or by http only on the registry's own host where
    /// that itself is spoken to by http.
    fn may_trust(&self, realm: &str) -> bool {
        let Ok(url) = Url::parse(realm) else {
            return false;
        };
        if url.scheme() == "https" {
            return true;
        }
        let ours = Url::parse(&self.endpoint.base);
        self.insecure && ours.is_ok_and(|o| o.scheme() == "http" && o.host_str() == url.host_str())
    }
}
