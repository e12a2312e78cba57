//! Trying again what failed for reasons that pass.

use std::future::Future;
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// How often and how patiently.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// Tries in all.
    pub(crate) tries: u32,
    /// The first pause; each next one is twice as long.
    pub(crate) pause: Duration,
}

/// A registry that asks for more patience than this is not waited for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 5,
            pause: Duration::from_millis(500),
        }
    }
}

impl Retry {
    /// Runs `attempt` until it succeeds, fails for good, or has been tried often enough.
    pub(crate) async fn run<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut tried = 1;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if tried < self.tries && passes(&error) => {
                    self.wait(what, tried, &error).await;
                    tried += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Pauses before the try that follows number `tried`.
    pub(crate) async fn wait(&self, what: &str, tried: u32, error: &Error) {
        let doubled = self
            .pause
            .saturating_mul(1 << tried.saturating_sub(1).min(10));
        let pause = error.retry_after().unwrap_or(doubled).min(PAUSE_MAX);
        tracing::info!(%what, %error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
    }
}

/// Whether the same request may succeed a moment later.
pub(crate) fn passes(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
        && error.retry_after().is_none_or(|wait| wait <= PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Retry = Retry {
        tries: 3,
        pause: Duration::ZERO,
    };

    async fn tries_until(kind: ErrorKind, succeed_at: u32) -> (u32, bool) {
        let mut tries = 0;
        let outcome = QUICK
            .run("x", || {
                tries += 1;
                let now = tries;
                async move {
                    if now == succeed_at {
                        Ok(())
                    } else {
                        Err(Error::new(kind, "no"))
                    }
                }
            })
            .await;
        (tries, outcome.is_ok())
    }

    #[tokio::test]
    async fn only_what_passes_is_tried_again() {
        assert_eq!(tries_until(ErrorKind::Unavailable, 3).await, (3, true));
        assert_eq!(tries_until(ErrorKind::Unavailable, 9).await, (3, false));
        assert_eq!(tries_until(ErrorKind::NotFound, 2).await, (1, false));
    }

    #[test]
    fn a_registry_may_not_make_us_wait_for_ever() {
        let error = |secs| {
            Error::new(ErrorKind::Unavailable, "toomanyrequests")
                .with_retry_after(Some(Duration::from_secs(secs)))
        };
        assert!(passes(&error(5)));
        assert!(!passes(&error(3600)));
    }
}
