//! Answers, put together.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::Response;
use super::body::Body;
use crate::server::fault::Fault;

/// `Docker-Content-Digest`
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `Docker-Upload-UUID`
pub(crate) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// `OCI-Subject`
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// `OCI-Tag`
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// `OCI-Filters-Applied`
pub(crate) const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// `Docker-Distribution-API-Version`, which the docker client looks for.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// An answer that is being put together.
pub(crate) struct Answer(Response);

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Self {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        Self(response)
    }

    /// Adds a header. A value that is none (control characters) is left out: values come from what
    /// was checked before.
    pub(crate) fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.0.headers_mut().append(name, value);
        }
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        *self.0.body_mut() = body.into();
        self
    }

    pub(crate) fn json(self, value: &impl serde::Serialize) -> Self {
        let text = serde_json::to_vec(value).unwrap_or_default();
        self.header(header::CONTENT_TYPE, "application/json")
            .body(text)
    }

    /// Done; `HEAD` is answered with the headers that `GET` has.
    pub(crate) fn finish(self, method: &Method) -> Response {
        let mut response = self.0;
        let length = response.body().length();
        let status = response.status();
        if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if *method == Method::HEAD {
            *response.body_mut() = Body::Empty;
        }
        response
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Self {
        let mut answer = Answer::new(fault.status)
            .header(header::CONTENT_TYPE, "application/json")
            .body(fault.body());
        for (name, value) in fault.headers() {
            answer.0.headers_mut().append(name, value.clone());
        }
        answer
    }
}

/// What every answer says.
pub(crate) fn mark(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}
