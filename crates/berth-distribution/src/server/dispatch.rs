//! From a request to its handler, and back to an answer.

use std::sync::Arc;

use http::header;
use http::{Method, StatusCode};

use super::fault::{Code, Fault, Reply};
use super::http::answer::{self, Answer};
use super::http::connection::Peer;
use super::http::query::Query;
use super::http::{Request, Response};
use super::route::{self, Resource};
use super::service::Service;
use super::{blobs, catalog, manifests, referrers, tags, uploads};

/// A request on its way through the registry.
pub(crate) struct Call {
    pub(crate) service: Arc<Service>,
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) peer: Peer,
    pub(crate) request: Request,
}

impl Call {
    /// The first value of a header, if it is text.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
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
        request,
    };
    let answer = match handle(call).await {
        Ok(answer) => answer,
        Err(fault) => fault.into(),
    };
    let mut response = answer.finish(&method);
    answer::mark(&mut response);
    response
}

async fn handle(call: Call) -> Reply<Answer> {
    let Some(resource) = route::parse(call.request.uri().path())? else {
        return Err(not_found(&call));
    };
    if call.service.settings.read_only && is_change(&call.method) {
        return Err(Fault::new(
            Code::Unsupported,
            "the registry is read-only: nothing can be pushed or deleted",
        ));
    }
    route_to(call, resource).await
}

fn is_change(method: &Method) -> bool {
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
