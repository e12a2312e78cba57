//! From a request to its handler, and back to an answer.

use std::sync::Arc;

use http::header;
use http::{Method, StatusCode};

use super::access::{Caller, Identity, Verb};
use super::cache::{self, Cached};
use super::events::{Action, Origin};
use super::fault::{Code, Fault, Reply};
use super::http::answer::{self, Answer};
use super::http::connection::Peer;
use super::http::query::Query;
use super::http::{Request, Response};
use super::metrics::{self, Kind};
use super::receive::discard;
use super::record;
use super::route::{self, Resource};
use super::service::Service;
use super::{blobs, catalog, manifests, page, referrers, tags, token_service, uploads};

/// Bytes of a refused request's body that are taken off the connection.
const REFUSED_MAX: u64 = 4 << 20;

/// A request on its way through the registry.
pub(crate) struct Call {
    pub(crate) service: Arc<Service>,
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) peer: Peer,
    pub(crate) caller: Caller,
    /// Where the request is about a cached repository.
    pub(crate) cached: Option<Cached>,
    pub(crate) request: Request,
}

impl Call {
    /// The first value of a header, if it is text.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }

    /// Where the client reached us: `https://HOST[:PORT]`. Only the client itself is told it.
    pub(crate) fn base(&self) -> String {
        let scheme = if self.peer.tls { "https" } else { "http" };
        let host = self.header(header::HOST).filter(|host| is_host(host));
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }

    /// Whether only the headers are asked for.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

/// Answers one request.
pub(crate) async fn answer(service: Arc<Service>, request: Request, peer: Peer) -> Response {
    let method = request.method().clone();
    let call = Call {
        service,
        method: method.clone(),
        query: Query::parse(request.uri().query()),
        peer,
        caller: Caller::anonymous(),
        cached: None,
        request,
    };
    let (service, kind) = (call.service.clone(), kind(call.request.uri().path()));
    let answer = match handle(call).await {
        Ok(answer) => answer,
        Err(fault) => fault.into(),
    };
    let mut response = answer.finish(&method);
    service
        .metrics
        .answered(kind, response.status(), response.body().length());
    answer::mark(&mut response);
    response
}

/// Nothing that could end a quoted string or a header.
fn is_host(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'))
}

async fn handle(mut call: Call) -> Reply<Answer> {
    match call.request.uri().path() {
        "/token" => return token_service::answer(call).await,
        "/metrics" => return metrics::answer(&call).await,
        "/healthz" => return health(&call).await,
        _ => {}
    }
    let Some(resource) = route::parse(call.request.uri().path())? else {
        identify(&mut call).await?;
        return page::answer(&call).await?.ok_or_else(|| not_found(&call));
    };
    match admit(&mut call, resource).await {
        Ok(resource) => route_to(call, resource).await,
        Err(fault) => {
            discard(call.request.body_mut(), REFUSED_MAX).await;
            Err(fault)
        }
    }
}

/// Whether the request may go on, and what it is about by its name here.
async fn admit(call: &mut Call, resource: Resource) -> Reply<Resource> {
    if call.service.settings.read_only && is_change(&call.method) {
        return Err(Fault::new(
            Code::Unsupported,
            "the registry is read-only: nothing can be pushed or deleted",
        ));
    }
    let resource = cache::localize(call, resource).await?;
    identify(call).await?;
    permit(call, &resource)?;
    Ok(resource)
}

/// Learns who asks.
async fn identify(call: &mut Call) -> Reply<()> {
    if call.service.access.guard().is_none()
        || !call.request.headers().contains_key(header::AUTHORIZATION)
    {
        return Ok(());
    }
    let (headers, base) = (call.request.headers().clone(), call.base());
    // A password takes its time.
    call.caller = call
        .service
        .blocking(move |service| match service.access.guard() {
            Some(guard) => guard.identify(&headers, &base),
            None => Ok(Caller::anonymous()),
        })
        .await?;
    Ok(())
}

/// Whether the caller may do what the request asks for.
fn permit(call: &Call, resource: &Resource) -> Reply<()> {
    let access = &call.service.access;
    let read = !is_change(&call.method);
    let (repository, verb) = match resource {
        Resource::Version | Resource::Catalog => {
            // Clients ask here how to log in.
            return match access.guard() {
                Some(guard)
                    if call.caller.identity == Identity::Anonymous && !call.caller.has_token() =>
                {
                    Err(guard.challenge(&call.base(), &[], None))
                }
                _ => Ok(()),
            };
        }
        Resource::Manifest(repository, _) | Resource::Blob(repository, _) if !read => {
            let verb = if call.method == Method::DELETE {
                Verb::Delete
            } else {
                Verb::Push
            };
            (repository, verb)
        }
        Resource::Uploads(repository) | Resource::Upload(repository, _) => (repository, Verb::Push),
        Resource::Tags(repository)
        | Resource::Manifest(repository, _)
        | Resource::Blob(repository, _)
        | Resource::Referrers(repository, _) => (repository, Verb::Pull),
    };
    let permitted = access.check(&call.caller, repository, verb, || call.base());
    if let Err(fault) = &permitted
        && call.request.headers().contains_key(header::AUTHORIZATION)
    {
        let mut event = Origin::of(call).event(Action::Deny, repository);
        event.reason = Some(fault.message().to_owned());
        call.service.events.tell(event);
    }
    permitted
}

/// `GET /healthz`: whether the record answers.
async fn health(call: &Call) -> Reply<Answer> {
    call.service
        .blocking(|service| {
            service
                .storage
                .record
                .read(|c| record::has_repository(c, ""))
        })
        .await
        .map_err(|fault| fault.with_status(StatusCode::SERVICE_UNAVAILABLE))?;
    Ok(Answer::new(StatusCode::OK).body(b"ok\n".to_vec()))
}

/// How a request is counted.
fn kind(path: &str) -> Kind {
    match path {
        "/token" => Kind::Token,
        path if path.contains("/manifests/") => Kind::Manifest,
        path if path.contains("/blobs/uploads") => Kind::Upload,
        path if path.contains("/blobs/") => Kind::Blob,
        path if path.ends_with("/tags/list") => Kind::Tags,
        path if path.contains("/referrers/") => Kind::Referrers,
        _ => Kind::Other,
    }
}

/// Whether the request is to change something.
pub(crate) fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn not_found(call: &Call) -> Fault {
    let path: String = call.request.uri().path().chars().take(300).collect();
    Fault::new(Code::NameUnknown, format!("nothing is at {path}"))
}

async fn route_to(call: Call, resource: Resource) -> Reply<Answer> {
    let method = call.method.clone();
    let read = matches!(method, Method::GET | Method::HEAD);
    match (resource, method) {
        (Resource::Version, _) if read => {
            Ok(Answer::new(StatusCode::OK).json(&serde_json::json!({})))
        }
        (Resource::Catalog, _) if read => catalog::list(&call).await,
        (Resource::Tags(repository), _) if read => tags::list(&call, repository).await,
        (Resource::Manifest(repository, target), _) if read => {
            manifests::get(&call, repository, target).await
        }
        (Resource::Manifest(repository, target), Method::PUT) => {
            manifests::put(call, repository, target).await
        }
        (Resource::Manifest(repository, target), Method::DELETE) => {
            manifests::delete(&call, repository, target).await
        }
        (Resource::Blob(repository, digest), _) if read => {
            blobs::get(&call, repository, digest).await
        }
        (Resource::Blob(repository, digest), Method::DELETE) => {
            blobs::delete(&call, repository, digest).await
        }
        (Resource::Uploads(repository), Method::POST) => uploads::begin(call, repository).await,
        (Resource::Upload(repository, id), _) if read => {
            uploads::status(&call, &repository, &id).await
        }
        (Resource::Upload(repository, id), Method::PATCH) => {
            uploads::append(call, repository, id).await
        }
        (Resource::Upload(repository, id), Method::PUT) => {
            uploads::complete(call, repository, id).await
        }
        (Resource::Upload(repository, id), Method::DELETE) => {
            uploads::cancel(&call, &repository, &id).await
        }
        (Resource::Referrers(repository, digest), _) if read => {
            referrers::list(&call, repository, digest).await
        }
        (resource, method) => Err(Fault::new(
            Code::Unsupported,
            format!("{method} is not what can be done with this"),
        )
        .with_header(header::ALLOW, allowed(&resource))),
    }
}

fn allowed(resource: &Resource) -> &'static str {
    match resource {
        Resource::Version | Resource::Catalog | Resource::Tags(_) | Resource::Referrers(..) => {
            "GET, HEAD"
        }
        Resource::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Resource::Blob(..) => "GET, HEAD, DELETE",
        Resource::Uploads(_) => "POST",
        Resource::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
    }
}
