//! Records on streams: progress as JSON lines, and the frames that carry a container's
//! output without a terminal.

use serde_json::Value;

wire! {
    /// One line of the answers of pull, push, load, import and build.
    #[serde(rename_all = "camelCase")]
    pub struct JsonMessage {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub stream: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub status: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub progress_detail: Option<ProgressDetail>,
        /// The bar, drawn for clients that cannot.
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub progress: String,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error_detail: Option<ErrorDetail>,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub error: String,
        /// `{"ID": "sha256:…"}` from a build, `{"Tag", "Digest", "Size"}` from a push.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub aux: Option<Value>,
    }

    /// How far a transfer is. Docker writes `{}` when it cannot tell.
    #[serde(rename_all = "camelCase")]
    pub struct ProgressDetail {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub current: u64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub total: u64,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub hidecounts: bool,
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub units: String,
    }

    /// Why the operation failed.
    #[serde(rename_all = "camelCase")]
    pub struct ErrorDetail {
        #[serde(skip_serializing_if = "crate::docker::zero")]
        pub code: i64,
        pub message: String,
    }

    /// `aux` of a build and of a load: the image that came out.
    pub struct ImageIdAux {
        #[serde(rename = "ID")]
        pub id: String,
    }

    /// `aux` of a push.
    #[serde(rename_all = "PascalCase")]
    pub struct PushAux {
        pub tag: String,
        pub digest: String,
        pub size: u64,
    }
}

impl JsonMessage {
    /// A line of plain status.
    pub fn status(status: impl Into<String>) -> Self {
        JsonMessage {
            status: status.into(),
            ..Default::default()
        }
    }

    /// A piece of a build's output.
    pub fn stream(text: impl Into<String>) -> Self {
        JsonMessage {
            stream: text.into(),
            ..Default::default()
        }
    }

    /// A status of one layer, with how far it is (an empty detail if unknown).
    pub fn progress(
        id: impl Into<String>,
        status: impl Into<String>,
        detail: ProgressDetail,
    ) -> Self {
        JsonMessage {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(detail),
            ..Default::default()
        }
    }

    /// The last line of a stream that failed.
    pub fn error(message: impl Into<String>) -> Self {
        JsonMessage::error_code(0, message)
    }

    /// The last line of a stream that failed with a code (a build step's exit status).
    pub fn error_code(code: i64, message: impl Into<String>) -> Self {
        let message = message.into();
        JsonMessage {
            error_detail: Some(ErrorDetail {
                code,
                message: message.clone(),
            }),
            error: message,
            ..Default::default()
        }
    }

    /// A line that carries data for programs.
    pub fn aux(value: Value) -> Self {
        JsonMessage {
            aux: Some(value),
            ..Default::default()
        }
    }

    /// The line as it travels: compact JSON and CR LF, as dockerd ends them.
    pub fn line(&self) -> Vec<u8> {
        // Strings, numbers and a JSON value only: writing cannot fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(b"\r\n");
        line
    }
}

/// `Content-Type` of framed output.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";
/// `Content-Type` of a terminal's output.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Length of a frame's header in bytes.
pub const FRAME_HEADER: usize = 8;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamKind {
    /// Never sent by an engine in practice.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the engine itself.
    SystemError = 3,
}

/// The header in front of each piece of framed output: `[kind, 0, 0, 0, length (big endian)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Which stream.
    pub kind: StreamKind,
    /// Bytes that follow.
    pub length: u32,
}

impl Frame {
    /// The header's bytes.
    pub fn encode(self) -> [u8; FRAME_HEADER] {
        let [a, b, c, d] = self.length.to_be_bytes();
        [self.kind as u8, 0, 0, 0, a, b, c, d]
    }

    /// Reads a header; `None` if its first byte is no stream.
    pub fn decode(header: [u8; FRAME_HEADER]) -> Option<Self> {
        let kind = match header[0] {
            0 => StreamKind::Stdin,
            1 => StreamKind::Stdout,
            2 => StreamKind::Stderr,
            3 => StreamKind::SystemError,
            _ => return None,
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        Some(Frame { kind, length })
    }
}
