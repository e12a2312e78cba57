//! Errors as clients see them: a status and `{"message": …}`.

use axum::response::{IntoResponse, Response};
use berth_spec::docker::ErrorBody;
use http::{StatusCode, header};

/// What a route answers instead of its body.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

/// The result of a route.
pub type Reply<T> = Result<T, ApiError>;

impl ApiError {
    /// An answer of this status with this text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The text alone, for a stream whose status has left already.
    pub fn into_message(self) -> String {
        self.message
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        let body = ErrorBody {
            message: self.message,
        };
        // A struct of one string: writing it cannot fail.
        let text = serde_json::to_string(&body).unwrap_or_default() + "\n";
        (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            text,
        )
            .into_response()
    }
}

impl From<berth_engine::Error> for ApiError {
    fn from(error: berth_engine::Error) -> Self {
        use berth_engine::ErrorKind as Kind;
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, with_causes(&error))
    }
}

/// The text of an error with the causes that it does not already contain.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
