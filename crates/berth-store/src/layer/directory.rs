//! The directory form of a layer, for kernels that cannot mount EROFS from files.

use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// Unpacks `layer.tar` in `dir` to `fs/` beside it.
pub(super) fn write(dir: &Path) -> Result<()> {
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "{}: the kernel cannot mount EROFS from files",
            dir.display()
        ),
    ))
}
