//! What is built: a directory, an archive, a Dockerfile alone, or an address.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use berth_build::Ignore;
use berth_client::Body;
use berth_store::tree::{self, FileType, PackOptions, Verdict};
use berth_sys::root::RootFd;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::archive;
use crate::failure::{Failure, Outcome, why};
use crate::option::mount::clean_absolute;
use crate::terminal;

/// Largest Dockerfile or ignore file read, in bytes.
const MAX_TEXT: u64 = 16 << 20;
/// Bytes looked at to tell an archive from a Dockerfile.
const MAGIC: usize = 1024;
/// How often the amount sent is shown in a terminal, in bytes.
const STEP: u64 = 512 << 10;
/// The context's ignore file.
const IGNORE: &str = ".dockerignore";
/// The two empty blocks that end an archive, in bytes.
const END: usize = 1024;

/// A context ready to be sent.
pub struct Source {
    /// The archive; nothing where the engine fetches it.
    pub body: Body,
    /// The Dockerfile's path in it; empty for the default.
    pub dockerfile: String,
    /// Where the engine fetches the context.
    pub remote: String,
}

impl Source {
    /// Opens the context that a command line names.
    pub fn new(context: &str, file: &str, quiet: bool, compress: bool) -> Outcome<Self> {
        if context == "-" {
            if file == "-" {
                return Err(Failure::new(
                    "invalid argument: can't use stdin for both build context and dockerfile",
                ));
            }
            return from_stdin(file, quiet);
        }
        if Path::new(context).exists() {
            return from_directory(context, file, quiet, compress);
        }
        if is_address(context) {
            return Ok(Source {
                body: Body::Empty,
                dockerfile: file.to_owned(),
                remote: context.to_owned(),
            });
        }
        Err(Failure::new(format!(
            "unable to prepare context: path {context:?} not found"
        )))
    }
}

fn is_address(text: &str) -> bool {
    [
        "http://",
        "https://",
        "git://",
        "git@",
        "ssh://",
        "github.com/",
    ]
    .iter()
    .any(|prefix| text.starts_with(prefix))
}

fn from_stdin(file: &str, quiet: bool) -> Outcome<Source> {
    let mut begin = Vec::new();
    io::stdin()
        .lock()
        .take(MAGIC as u64)
        .read_to_end(&mut begin)?;
    if is_archive(&begin) {
        let body = archive::body(move |out| {
            let mut out = Counter::new(out, quiet);
            out.write_all(&begin)?;
            io::copy(&mut io::stdin().lock(), &mut out)?;
            out.done()
        });
        return Ok(Source {
            body,
            dockerfile: file.to_owned(),
            remote: String::new(),
        });
    }
    if !file.is_empty() {
        return Err(Failure::new(
            "unable to prepare context: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
        ));
    }
    io::stdin().lock().take(MAX_TEXT).read_to_end(&mut begin)?;
    let body = archive::body(move |out| {
        let mut out = Counter::new(out, quiet);
        out.write_all(&packed_text("Dockerfile", &begin)?)?;
        out.done()
    });
    Ok(Source {
        body,
        dockerfile: "Dockerfile".to_owned(),
        remote: String::new(),
    })
}

/// Whether these are the first bytes of an archive, compressed or not.
fn is_archive(begin: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [
        b"\x1f\x8b\x08",
        b"BZh",
        b"\xfd7zXZ\x00",
        b"\x28\xb5\x2f\xfd",
    ];
    let tar = begin.get(257..262) == Some(b"ustar".as_slice());
    // An archive with nothing in it.
    let empty = begin.len() == MAGIC && begin.iter().all(|&b| b == 0);
    tar || empty || COMPRESSED.iter().any(|magic| begin.starts_with(magic))
}

fn prepare(message: impl std::fmt::Display) -> Failure {
    Failure::new(format!("unable to prepare context: {message}"))
}

fn from_directory(context: &str, file: &str, quiet: bool, compress: bool) -> Outcome<Source> {
    let root = fs::canonicalize(context)
        .map_err(|e| prepare(format!("unable to evaluate symlinks in context path: {e}")))?;
    if !root.is_dir() {
        return Err(prepare(format!(
            "context must be a directory: {}",
            root.display()
        )));
    }
    let (dockerfile, outside) = if file == "-" {
        let mut text = Vec::new();
        io::stdin().lock().take(MAX_TEXT).read_to_end(&mut text)?;
        (own_name(), Some(text))
    } else {
        let path = dockerfile_path(&root, file)?;
        match path.strip_prefix(&root) {
            Ok(inside) => (inside.display().to_string(), None),
            // Not part of the context: it goes along under a name of its own.
            Err(_) => (own_name(), Some(read(&path)?)),
        }
    };
    let ignore = Ignored::new(&root, &dockerfile)?;
    let name = dockerfile.clone();
    let body = archive::body(move |out| {
        let mut out = Counter::new(out, quiet);
        if compress {
            let mut packed = GzEncoder::new(&mut out, Compression::default());
            send(&root, &name, outside.as_deref(), &ignore, &mut packed)?;
            packed.finish()?;
        } else {
            send(&root, &name, outside.as_deref(), &ignore, &mut out)?;
        }
        out.done()
    });
    Ok(Source {
        body,
        dockerfile,
        remote: String::new(),
    })
}

/// A name that no file of the context has.
fn own_name() -> String {
    let mut random = [0; 10];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let seed = if filled.is_ok() { random } else { [0; 10] };
    format!(".dockerfile.{}", data_encoding::HEXLOWER.encode(&seed))
}

fn dockerfile_path(root: &Path, file: &str) -> Outcome<PathBuf> {
    let path = if file.is_empty() {
        let usual = root.join("Dockerfile");
        let lower = root.join("dockerfile");
        if !usual.exists() && lower.exists() {
            lower
        } else {
            usual
        }
    } else {
        let given = PathBuf::from(clean_absolute(file));
        // What is inside by another way to the context is inside all the same.
        match (given.parent().map(fs::canonicalize), given.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => given,
        }
    };
    if let Err(e) = fs::metadata(&path) {
        return Err(prepare(format!(
            "unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            path.display(),
            why(&e)
        )));
    }
    Ok(path)
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(|e| {
        Failure::new(format!(
            "unable to open Dockerfile: open {}: {}",
            path.display(),
            why(&e)
        ))
    })?;
    file.take(MAX_TEXT).read_to_end(&mut text)?;
    Ok(text)
}

/// The context's ignore file, and what stays in spite of it.
struct Ignored {
    rules: Option<Ignore>,
    dockerfile: String,
}

impl Ignored {
    fn new(root: &Path, dockerfile: &str) -> Outcome<Self> {
        // A Dockerfile may have an ignore file of its own.
        let own = root.join(format!("{dockerfile}.dockerignore"));
        let path = if own.exists() { own } else { root.join(IGNORE) };
        let mut text = Vec::new();
        let rules = match fs::File::open(&path) {
            Ok(file) => {
                file.take(MAX_TEXT).read_to_end(&mut text)?;
                let text = String::from_utf8_lossy(&text);
                Some(
                    Ignore::parse(&text)
                        .map_err(|e| Failure::new(format!("error checking context: {e}")))?,
                )
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                return Err(Failure::new(format!(
                    "open {}: {}",
                    path.display(),
                    why(&e)
                )));
            }
        };
        Ok(Ignored {
            rules,
            dockerfile: dockerfile.to_owned(),
        })
    }

    fn verdict(&self, path: &Path, kind: FileType) -> Verdict {
        let Some(rules) = &self.rules else {
            return Verdict::Take;
        };
        let path = path.to_string_lossy();
        // The builder needs these; it takes them out itself.
        if path == self.dockerfile || path == IGNORE || !rules.excludes(&path) {
            return Verdict::Take;
        }
        let holds_dockerfile = self.dockerfile.starts_with(&format!("{path}/"));
        if kind == FileType::Directory && (rules.has_exceptions() || holds_dockerfile) {
            Verdict::Skip
        } else {
            Verdict::Prune
        }
    }
}

fn send(
    root: &Path,
    dockerfile: &str,
    outside: Option<&[u8]>,
    ignored: &Ignored,
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(text) = outside {
        // It is for the builder alone: `COPY .` must not see it.
        let rules = fs::read(root.join(IGNORE)).unwrap_or_else(|_| IGNORE.into());
        let rules = [&rules[..], b"\n", dockerfile.as_bytes(), b"\n"].concat();
        for (name, text) in [(dockerfile, text), (IGNORE, &rules)] {
            let packed = packed_text(name, text)?;
            out.write_all(&packed[..packed.len().saturating_sub(END)])?;
        }
    }
    let options = PackOptions {
        name: Some(""),
        filter: Some(&|path, kind| match outside {
            // A changed one has gone ahead.
            Some(_) if path == Path::new(IGNORE) => Verdict::Prune,
            _ => ignored.verdict(path, kind),
        }),
        // Whose files these are here means nothing there.
        owner: Some((0, 0)),
        ..PackOptions::default()
    };
    let root = RootFd::open(root)?;
    tree::pack(&root, Path::new("."), out, &options)
        .map(drop)
        .map_err(io::Error::other)
}

/// An archive with one file.
fn packed_text(name: &str, text: &[u8]) -> io::Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("file"), text)?;
    let root = RootFd::open(dir.path())?;
    let options = PackOptions {
        name: Some(name),
        owner: Some((0, 0)),
        ..PackOptions::default()
    };
    let mut packed = Vec::new();
    tree::pack(&root, Path::new("file"), &mut packed, &options).map_err(io::Error::other)?;
    Ok(packed)
}

/// Counts what is sent and shows it, as Docker does.
struct Counter<'a> {
    out: &'a mut dyn Write,
    sent: u64,
    shown: u64,
    quiet: bool,
}

impl<'a> Counter<'a> {
    fn new(out: &'a mut dyn Write, quiet: bool) -> Self {
        Counter {
            out,
            sent: 0,
            shown: 0,
            quiet,
        }
    }

    fn show(&self, end: &str) {
        if !self.quiet {
            let amount = crate::format::size::human(self.sent as f64);
            print!("Sending build context to Docker daemon {amount:>8}\r{end}");
            // Nobody to show it to is no reason to fail.
            let _ = io::stdout().flush();
        }
    }

    fn done(self) -> io::Result<()> {
        self.show("\r\n");
        self.out.flush()
    }
}

impl Write for Counter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let length = self.out.write(buf)?;
        self.sent += length as u64;
        if self.sent - self.shown >= STEP && terminal::stdout_is_terminal() {
            self.shown = self.sent;
            self.show("");
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_dockerfiles() {
        assert!(is_archive(&packed_text("a", b"x").unwrap()[..MAGIC]));
        assert!(is_archive(b"\x1f\x8b\x08\x00"));
        assert!(is_archive(&[0; MAGIC]));
        assert!(!is_archive(b"FROM scratch\n") && !is_archive(b""));
    }

    #[test]
    fn ignored_files_stay_here_and_the_dockerfile_goes_along() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            (".dockerignore", "*\n!keep\n"),
            ("Dockerfile", "FROM scratch"),
            ("keep", "1"),
            ("drop", "1"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let ignored = Ignored::new(dir.path(), "Dockerfile").unwrap();
        let verdict = |name: &str| ignored.verdict(Path::new(name), FileType::RegularFile);
        assert_eq!(verdict("keep"), Verdict::Take);
        assert_eq!(verdict("Dockerfile"), Verdict::Take);
        assert_eq!(verdict("drop"), Verdict::Prune);
        let mut sent = Vec::new();
        send(
            dir.path(),
            ".dockerfile.x",
            Some(b"FROM y"),
            &ignored,
            &mut sent,
        )
        .unwrap();
        let text = String::from_utf8_lossy(&sent);
        assert!(text.contains("FROM y") && text.contains("keep") && !text.contains("drop\0"));
    }
}
