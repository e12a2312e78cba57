//! The one way from the executor to code that blocks.

use crate::{Error, Result};

/// Runs `work` on a thread that may block, and waits for it. What began is finished, also when the
/// caller stops waiting.
pub(crate) async fn blocking<T, E, F>(work: F) -> Result<T>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(Error::internal(format!(
            "a step of the engine failed: {error}"
        ))),
    }
}
