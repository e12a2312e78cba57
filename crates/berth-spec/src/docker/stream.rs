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

/// Takes framed output apart, in whatever pieces it arrives.
#[derive(Debug, Default)]
pub struct FrameSplitter {
    header: [u8; FRAME_HEADER],
    /// Bytes of the header that are here.
    filled: usize,
    /// The frame that is under way, with the bytes still to come.
    frame: Option<Frame>,
}

/// The first byte of a header that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoFrame(pub u8);

impl FrameSplitter {
    /// The next content in `bytes`, which goes on behind it; nothing once all has been taken in. A content that
    /// `bytes` cut off goes on in the next ones.
    ///
    /// # Errors
    /// Where a header is none.
    pub fn next<'b>(
        &mut self,
        bytes: &mut &'b [u8],
    ) -> Result<Option<(StreamKind, &'b [u8])>, NoFrame> {
        loop {
            if let Some(frame) = self.frame.as_mut().filter(|f| f.length > 0) {
                let take = bytes.len().min(frame.length as usize);
                let (content, rest) = bytes.split_at(take);
                *bytes = rest;
                // No more than the length it is taken from.
                frame.length -= take as u32;
                return Ok((take > 0).then_some((frame.kind, content)));
            }
            let take = bytes.len().min(FRAME_HEADER - self.filled);
            let (header, rest) = bytes.split_at(take);
            self.header[self.filled..self.filled + take].copy_from_slice(header);
            self.filled += take;
            *bytes = rest;
            if self.filled < FRAME_HEADER {
                return Ok(None);
            }
            self.filled = 0;
            self.frame = Some(Frame::decode(self.header).ok_or(NoFrame(self.header[0]))?);
        }
    }

    /// Whether the frame that is under way has come to its end.
    pub fn whole(&self) -> bool {
        self.filled == 0 && self.frame.is_none_or(|f| f.length == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_whatever_pieces_they_come_in() {
        let mut all = Vec::new();
        for (kind, text) in [
            (StreamKind::Stdout, "one"),
            (StreamKind::Stdout, ""),
            (StreamKind::Stderr, "two and more"),
        ] {
            let length = text.len() as u32;
            all.extend_from_slice(&Frame { kind, length }.encode());
            all.extend_from_slice(text.as_bytes());
        }
        for size in [1, 3, 8, 11, all.len()] {
            let (mut splitter, mut out, mut err) = (FrameSplitter::default(), vec![], vec![]);
            for mut piece in all.chunks(size) {
                while let Some((kind, content)) = splitter.next(&mut piece).unwrap() {
                    match kind {
                        StreamKind::Stderr => err.extend_from_slice(content),
                        _ => out.extend_from_slice(content),
                    }
                }
                assert!(piece.is_empty());
            }
            assert!(splitter.whole());
            assert_eq!((&out[..], &err[..]), (&b"one"[..], &b"two and more"[..]));
        }
        let mut none = &b"HTTP/1.1 400"[..];
        assert_eq!(FrameSplitter::default().next(&mut none), Err(NoFrame(b'H')));
    }
}
