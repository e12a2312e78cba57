//! The classic builder's words, and who reads them.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{BuildEvent, Error, Result, StepOutput};

/// Tells a build's events from the thread that builds.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    events: mpsc::Sender<BuildEvent>,
    cancel: CancellationToken,
}

impl Teller {
    pub(crate) fn new(events: mpsc::Sender<BuildEvent>, cancel: CancellationToken) -> Self {
        Teller { events, cancel }
    }

    /// Tells `event`, waiting for a slow reader. Nobody left to read is as good as a cancelled build.
    pub(crate) fn tell(&self, event: BuildEvent) -> Result<()> {
        self.check()?;
        self.events.blocking_send(event).map_err(|_| {
            self.cancel.cancel();
            Error::cancelled()
        })
    }

    pub(crate) fn text(&self, text: impl Into<String>) -> Result<()> {
        self.tell(BuildEvent::Text(text.into()))
    }

    /// Whether the build is to go on.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() || self.events.is_closed() {
            self.cancel.cancel();
            return Err(Error::cancelled());
        }
        Ok(())
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(crate) fn events(&self) -> &mpsc::Sender<BuildEvent> {
        &self.events
    }

    pub(crate) fn step_output(&self) -> StepOutput {
        StepOutput::new(self.events.clone())
    }
}

/// The first twelve digits of an ID.
pub(crate) fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    &hex[..hex.len().min(12)]
}

/// 64 random hexadecimal digits.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags).map_err(|e| {
            Error::new(
                crate::ErrorKind::Internal,
                format!("cannot get random bytes: {e}"),
            )
        })?;
    }
    Ok(data_encoding::HEXLOWER.encode(&Bytes::copy_from_slice(&bytes)))
}
