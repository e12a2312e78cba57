//! What a client is told when a request cannot be done (distribution-spec 1.1, "Error Codes").

use std::fmt;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::record::sql;

/// The specification's codes, and the few of the reference registry that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unavailable,
    Unknown,
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Code::RangeInvalid => "RANGE_INVALID",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::TagInvalid => "TAG_INVALID",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Denied => "DENIED",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unavailable => "UNAVAILABLE",
            Code::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BlobUnknown
            | Code::BlobUploadUnknown
            | Code::ManifestUnknown
            | Code::NameUnknown => StatusCode::NOT_FOUND,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Denied => StatusCode::FORBIDDEN,
            Code::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Code::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A refusal or failure: status, code, a text that names its subject.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    message: String,
    detail: Option<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The result of everything in the server.
pub(crate) type Reply<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code,
            message: message.into(),
            detail: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Adds a header; a value that is none (it holds a line break, say) is left out.
    pub(crate) fn with_header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.push((name, value));
        }
        self
    }

    /// Something on our side went wrong: the log gets the cause, the client its name.
    pub(crate) fn internal(what: impl fmt::Display, cause: impl fmt::Display) -> Self {
        tracing::error!(error = %cause, "{what}");

        Self::new(Code::Unknown, what.to_string())
    }

    /// A file or socket failed; a full disk says so.
    pub(crate) fn io(what: impl fmt::Display, cause: std::io::Error) -> Self {
        match cause.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                tracing::error!("{what}: the disk is full");
                Self::new(Code::Unknown, format!("{what}: no space left on device"))
                    .with_status(StatusCode::INSUFFICIENT_STORAGE)
            }
            _ => Self::internal(what, cause),
        }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// `{"errors":[{"code":…,"message":…,"detail":…}]}`
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut error = json!({"code": self.code.as_str(), "message": self.message});
        if let Some(detail) = &self.detail {
            error["detail"] = detail.clone();
        }
        json!({"errors": [error]}).to_string().into_bytes()
    }
}

/// An error with what caused it, in one line: many libraries tell only the outermost by themselves.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl From<sql::Error> for Fault {
    fn from(error: sql::Error) -> Self {
        let status = match &error {
            sql::Error::Sqlite(rusqlite::Error::SqliteFailure(e, _))
                if e.code == rusqlite::ErrorCode::DiskFull =>
            {
                Some(StatusCode::INSUFFICIENT_STORAGE)
            }
            // "disk_full"
            sql::Error::Postgres { code, .. } if code == "53100" => {
                Some(StatusCode::INSUFFICIENT_STORAGE)
            }
            // "operator_intervention": the server ends, or a statement took too long. The client may come
            // again.
            sql::Error::Postgres { code, .. } if code.starts_with("57") => {
                Some(StatusCode::SERVICE_UNAVAILABLE)
            }
            sql::Error::Unreachable(_) => Some(StatusCode::SERVICE_UNAVAILABLE),
            _ => None,
        };
        let fault = Self::internal("the registry's record failed", error);
        match status {
            Some(StatusCode::SERVICE_UNAVAILABLE) => Fault {
                code: Code::Unavailable,
                ..fault.with_status(StatusCode::SERVICE_UNAVAILABLE)
            },
            Some(status) => fault.with_status(status),
            None => fault,
        }
    }
}
