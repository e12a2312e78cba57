//! Where the Dockerfile of a directory is.

use std::path::{Path, PathBuf};

use crate::failure::why;

const DEFAULT: &str = "Dockerfile";

/// Largest Dockerfile that is read here, in bytes.
pub(super) const MAX: u64 = 1 << 20;

/// A Dockerfile, in a context or not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Relative to the context.
    Inside(String),
    /// Elsewhere.
    Outside(PathBuf),
}

/// Finds it. `context` is absolute and has no links in it; `given` is `--file`, relative to
/// where the user is, empty for the default.
pub(super) fn locate(context: &Path, given: &str) -> Result<Place, String> {
    let path = if given.is_empty() {
        let default = context.join(DEFAULT);
        let lower = context.join("dockerfile");
        if default.symlink_metadata().is_err() && lower.symlink_metadata().is_ok() {
            lower
        } else {
            default
        }
    } else {
        std::path::absolute(given)
            .map_err(|e| format!("unable to get absolute path to Dockerfile: {e}"))?
    };
    let real = path.canonicalize().map_err(|e| {
        format!(
            "unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            path.display(),
            why(&e)
        )
    })?;
    Ok(match real.strip_prefix(context) {
        Ok(inside) => Place::Inside(inside.to_string_lossy().into_owned()),
        Err(_) => Place::Outside(real),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_outside_and_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        let context = root.join("context");
        std::fs::create_dir_all(context.join("sub")).expect("a directory");
        let inside = |name: &str| Ok(Place::Inside(name.to_owned()));
        let error = locate(&context, "").expect_err("there is none");
        assert_eq!(
            error,
            format!(
                "unable to evaluate symlinks in Dockerfile path: lstat {}/Dockerfile: no such file or directory",
                context.display()
            )
        );
        std::fs::write(context.join("dockerfile"), "").expect("a file");
        assert_eq!(locate(&context, ""), inside("dockerfile"));
        std::fs::write(context.join("Dockerfile"), "").expect("a file");
        assert_eq!(locate(&context, ""), inside("Dockerfile"));
        std::fs::write(context.join("sub/D"), "").expect("a file");
        let given = |path: &Path| locate(&context, &path.to_string_lossy());
        assert_eq!(given(&context.join("sub/../sub/D")), inside("sub/D"));
        let outside = root.join("Dockerfile");
        std::fs::write(&outside, "").expect("a file");
        assert_eq!(given(&outside), Ok(Place::Outside(outside.clone())));
        std::os::unix::fs::symlink(&outside, context.join("link")).expect("a link");
        assert_eq!(given(&context.join("link")), Ok(Place::Outside(outside)));
    }
}
