//! The archive that is a context, before it is written.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use berth_build::Ignore;
use berth_store::tree::{self, FileType, PackOptions, Verdict};
use berth_sys::root::RootFd;
use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

/// A file that is put into the archive without being in the directory.
pub(super) struct Extra {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// An archive to be written once.
pub enum Archive {
    /// What a directory holds.
    Directory(Directory),
    /// An archive that somebody else has made, passed on as it is.
    Ready(Box<dyn Read + Send>),
    /// One file.
    File { name: String, content: Vec<u8> },
}

/// A directory to be packed.
pub struct Directory {
    pub(super) path: PathBuf,
    pub(super) ignore: Ignore,
    /// What is sent though it is ignored, relative to the directory.
    pub(super) kept: Vec<String>,
    /// Put in, in place of what the directory has under these names.
    pub(super) extra: Vec<Extra>,
}

impl Archive {
    /// Writes it; what fails is named.
    pub(super) fn write(self, out: &mut dyn Write) -> Result<(), String> {
        match self {
            Archive::Directory(directory) => directory.write(out),
            Archive::Ready(mut source) => io::copy(&mut source, out)
                .map(drop)
                .map_err(|e| format!("error reading the context: {e}")),
            Archive::File { name, content } => tree::append(out, &name, 0o600, &content)
                .and_then(|()| tree::end(out))
                .map_err(|e| e.to_string()),
        }
    }
}

impl Directory {
    fn write(&self, out: &mut dyn Write) -> Result<(), String> {
        let checking = |e: &dyn std::fmt::Display| format!("error checking context: {e}");
        let root = RootFd::open(&self.path).map_err(|e| {
            checking(&format_args!(
                "{}: {}",
                self.path.display(),
                crate::failure::why(&e)
            ))
        })?;
        for extra in &self.extra {
            tree::append(out, &extra.name, 0o600, &extra.content).map_err(|e| checking(&e))?;
        }
        let refused = OnceLock::new();
        let filter = |path: &Path, kind| {
            if refused.get().is_some() {
                return Verdict::Prune;
            }
            let verdict = self.judge(&path.to_string_lossy(), kind);
            if verdict != Verdict::Prune
                && let Err(reason) = readable(&self.path.join(path), kind)
            {
                // Nothing is there yet: it was looked at above.
                let _ = refused.set(reason);
                return Verdict::Prune;
            }
            verdict
        };
        let options = PackOptions {
            name: Some(""),
            follow: true,
            filter: Some(&filter),
            owner: Some((0, 0)),
            ..PackOptions::default()
        };
        let packed = tree::pack(&root, "/".as_ref(), out, &options);
        match (refused.into_inner(), packed) {
            (Some(reason), _) => Err(checking(&reason)),
            (None, Err(e)) => Err(checking(&with_cause(&e))),
            (None, Ok(_)) => Ok(()),
        }
    }

    fn judge(&self, path: &str, kind: FileType) -> Verdict {
        if self.extra.iter().any(|extra| extra.name == path) {
            return Verdict::Prune;
        }
        if !self.ignore.excludes(path) || self.kept.iter().any(|kept| kept == path) {
            return Verdict::Take;
        }
        let leads_to_kept = || {
            let inside =
                |kept: &String| kept.strip_prefix(path).is_some_and(|r| r.starts_with('/'));
            self.kept.iter().any(inside)
        };
        if kind == FileType::Directory && (leads_to_kept() || self.ignore.may_keep_below(path)) {
            Verdict::Skip
        } else {
            Verdict::Prune
        }
    }
}

/// Whether the user may read a file or look into a directory; in Docker's words where not.
fn readable(path: &Path, kind: FileType) -> Result<(), String> {
    let (wanted, words) = match kind {
        FileType::RegularFile => (Access::READ_OK, "no permission to read from"),
        FileType::Directory => (Access::READ_OK | Access::EXEC_OK, "can't stat"),
        _ => return Ok(()),
    };
    match rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS) {
        Err(Errno::ACCESS) => Err(format!("{words} '{}'", path.display())),
        // What else may be wrong, packing finds out.
        _ => Ok(()),
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(rules: &str, kept: &[&str]) -> Directory {
        Directory {
            path: PathBuf::from("/"),
            ignore: Ignore::parse(rules).expect("rules"),
            kept: kept.iter().map(|s| (*s).to_owned()).collect(),
            extra: vec![Extra {
                name: ".dockerfile.0".to_owned(),
                content: Vec::new(),
            }],
        }
    }

    #[test]
    fn what_is_sent() {
        use Verdict::{Prune, Skip, Take};
        let (file, dir) = (FileType::RegularFile, FileType::Directory);
        let kept = ["Dockerfile", ".dockerignore", "docker/Dockerfile"];
        for (rules, path, kind, verdict) in [
            ("", "a", file, Take),
            ("*", "a", file, Prune),
            ("*", "Dockerfile", file, Take),
            ("*", ".dockerignore", file, Take),
            ("*", "docker", dir, Skip),
            ("*", "docker/Dockerfile", file, Take),
            ("*", "docker/other", file, Prune),
            ("*", "dock", dir, Prune),
            ("*\n!src/main", "src", dir, Skip),
            ("*\n!src/main", "src/main", file, Take),
            ("*\n!src/main", "other", dir, Prune),
            ("*\n!src/main", "src", file, Prune),
            ("", ".dockerfile.0", file, Prune),
        ] {
            let judged = directory(rules, &kept).judge(path, kind);
            assert_eq!(judged, verdict, "{rules:?} {path}");
        }
    }

    fn names(archive: Archive) -> Vec<String> {
        let mut bytes = Vec::new();
        archive.write(&mut bytes).expect("an archive");
        // Names stand at the head of headers; contents here are shorter than a block.
        let mut names = Vec::new();
        for block in bytes.chunks(512) {
            if block.get(257..262) == Some(b"ustar") {
                let end = block.iter().position(|&b| b == 0).unwrap_or(100).min(100);
                names.push(String::from_utf8_lossy(&block[..end]).into_owned());
            }
        }
        names
    }

    #[test]
    fn a_directory_in_the_order_of_its_names() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["z", "a", "m/x", "m/b", "skip/x", "skip/keep", "Dockerfile"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, name).expect("a file");
        }
        let mut directory = directory("skip\n!skip/keep", &["Dockerfile"]);
        directory.path = dir.path().to_owned();
        assert_eq!(
            names(Archive::Directory(directory)),
            [
                ".dockerfile.0",
                "Dockerfile",
                "a",
                "m/",
                "m/b",
                "m/x",
                "skip/keep",
                "z"
            ]
        );
    }

    #[test]
    fn one_file() {
        let archive = Archive::File {
            name: "Dockerfile".to_owned(),
            content: b"FROM scratch".to_vec(),
        };
        assert_eq!(names(archive), ["Dockerfile"]);
    }
}
