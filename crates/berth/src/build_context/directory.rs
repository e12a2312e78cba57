//! A directory as the context.

use std::io::Read;
use std::path::{Path, PathBuf};

use berth_build::{IGNORE_FILE_MAX, Ignore};
use berth_store::hash;

use super::archive::{Archive, Directory, Extra};
use super::dockerfile::{self, Place};
use super::{Context, Source, read_small};
use crate::failure::why;

const IGNORE_FILE: &str = ".dockerignore";

pub(super) fn context(given: &str, dockerfile: &str) -> Result<Context, String> {
    let path = directory(given)?;
    if dockerfile == "-" {
        let mut content = Vec::new();
        std::io::stdin()
            .lock()
            .take(dockerfile::MAX + 1)
            .read_to_end(&mut content)
            .map_err(|e| format!("failed to read Dockerfile from STDIN: {e}"))?;
        if content.len() as u64 > dockerfile::MAX {
            return Err(format!(
                "failed to read Dockerfile from STDIN: it has more than {} bytes",
                dockerfile::MAX
            ));
        }
        return with_foreign_dockerfile(path, content, None);
    }
    match dockerfile::locate(&path, dockerfile)? {
        Place::Inside(name) => with_own_dockerfile(path, name),
        Place::Outside(place) => {
            let content = read_small(&place, "unable to open Dockerfile", dockerfile::MAX)?;
            with_foreign_dockerfile(path, content, Some(&place))
        }
    }
}

/// The context directory, absolute and without links in it.
fn directory(given: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(given)
        .and_then(|path| path.canonicalize())
        .map_err(|e| format!("unable to evaluate symlinks in context path: {}", why(&e)))?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(format!("context must be a directory: {}", path.display()))
    }
}

/// The rules beside the Dockerfile, `<its name>.dockerignore`, else the directory's; with the
/// name of the file they stand in.
fn rules(directory: &Path, own: Option<PathBuf>) -> Result<(Vec<u8>, Option<PathBuf>), String> {
    let general = directory.join(IGNORE_FILE);
    for path in own.into_iter().chain([general]) {
        if path.is_file() {
            let text = read_small(&path, "error reading .dockerignore", IGNORE_FILE_MAX)?;
            return Ok((text, Some(path)));
        }
    }
    Ok((Vec::new(), None))
}

fn beside(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(IGNORE_FILE);
    PathBuf::from(name)
}

fn parse(text: &[u8]) -> Result<Ignore, String> {
    Ignore::parse(&String::from_utf8_lossy(text))
        .map_err(|e| format!("error reading .dockerignore: {e}"))
}

fn with_own_dockerfile(path: PathBuf, name: String) -> Result<Context, String> {
    let (text, from) = rules(&path, Some(beside(&path.join(&name))))?;
    let mut kept = vec![name.clone()];
    let from = from
        .as_deref()
        .and_then(|from| from.strip_prefix(&path).ok());
    kept.extend(from.map(|from| from.to_string_lossy().into_owned()));
    Ok(Context {
        dockerfile: name,
        source: Source::Archive(Archive::Directory(Directory {
            ignore: parse(&text)?,
            path,
            kept,
            extra: Vec::new(),
        })),
    })
}

/// A Dockerfile that is not in the directory travels under a name of its own, and the rules
/// that travel say that no step sees it. The name comes from the content, so that the same
/// build is found in the cache again.
fn with_foreign_dockerfile(
    path: PathBuf,
    content: Vec<u8>,
    place: Option<&Path>,
) -> Result<Context, String> {
    let digest = hash::sha256(&content);
    let name = format!(".dockerfile.{}", digest.hex().get(..20).unwrap_or_default());
    let (text, from) = rules(&path, place.map(beside))?;
    let ignore = parse(&text)?;
    let mut sent = match from {
        Some(_) => text,
        None => IGNORE_FILE.as_bytes().to_vec(),
    };
    sent.extend_from_slice(format!("\n{name}\n").as_bytes());
    let extra = vec![
        Extra {
            name: name.clone(),
            content,
        },
        Extra {
            name: IGNORE_FILE.to_owned(),
            content: sent,
        },
    ];
    Ok(Context {
        dockerfile: name,
        source: Source::Archive(Archive::Directory(Directory {
            path,
            ignore,
            kept: Vec::new(),
            extra,
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(context: Context) -> (String, Directory) {
        match context.source {
            Source::Archive(Archive::Directory(directory)) => (context.dockerfile, directory),
            _ => panic!("no directory"),
        }
    }

    #[test]
    fn rules_beside_the_dockerfile_come_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("a path");
        for (name, text) in [("D", ""), (".dockerignore", "a"), ("D.dockerignore", "b")] {
            std::fs::write(path.join(name), text).expect("a file");
        }
        let (name, directory) = sent(with_own_dockerfile(path.clone(), "D".into()).expect("one"));
        assert_eq!(name, "D");
        assert_eq!(directory.kept, ["D", "D.dockerignore"]);
        assert!(directory.ignore.excludes("b") && !directory.ignore.excludes("a"));
        let (_, directory) = sent(with_own_dockerfile(path, "E".into()).expect("one"));
        assert_eq!(directory.kept, ["E", ".dockerignore"]);
        assert!(directory.ignore.excludes("a"));
    }

    #[test]
    fn a_foreign_dockerfile_is_hidden_from_the_steps() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_owned();
        let make = || with_foreign_dockerfile(path.clone(), b"FROM x".to_vec(), None);
        let (name, directory) = sent(make().expect("one"));
        let rules = |d: &Directory| String::from_utf8_lossy(&d.extra[1].content).into_owned();
        assert!(
            name.starts_with(".dockerfile.") && name.len() == 32,
            "{name}"
        );
        assert_eq!(rules(&directory), format!(".dockerignore\n{name}\n"));
        std::fs::write(path.join(".dockerignore"), "secret").expect("a file");
        let (again, directory) = sent(make().expect("one"));
        assert_eq!(again, name, "the same content has the same name");
        assert_eq!(rules(&directory), format!("secret\n{name}\n"));
        assert!(directory.ignore.excludes("secret"));
    }

    #[test]
    fn a_context_is_a_directory() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let given = file.path().to_string_lossy().into_owned();
        let error = context(&given, "").err().expect("a mistake");
        assert!(
            error.starts_with("context must be a directory: "),
            "{error}"
        );
    }
}
