//! Build contexts: what `COPY` and `ADD` read from, and where the Dockerfile stands.

pub(crate) mod fetch;
mod git;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_store::layer::decompress;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::builder::{BuilderOptions, blocking};
use crate::dockerfile::DOCKERFILE_MAX;
use crate::ignore::{IGNORE_FILE_MAX, Ignore, clean};
use crate::output::Teller;
use crate::source::Archive;
use crate::{BuildRequest, Error, ErrorKind, Result};

/// What a Dockerfile is called unless somebody says otherwise.
const DOCKERFILE: &str = "Dockerfile";
/// The file that says what is left out of a context.
const IGNORE_FILE: &str = ".dockerignore";

/// Where the files of a build come from.
pub enum Context {
    /// A tar archive, plain or compressed by gzip, zstd, xz or bzip2.
    Tar(Box<dyn AsyncRead + Send + Unpin>),
    /// The URL of a tar archive, of a git repository (`https://….git#ref:directory`, `git://…`,
    /// `git@…`) or of a Dockerfile.
    Remote(String),
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Context::Tar(_) => f.write_str("Tar(..)"),
            Context::Remote(url) => f.debug_tuple("Remote").field(url).finish(),
        }
    }
}

/// A context that is here.
pub(crate) struct Received {
    pub(crate) archive: Archive,
    /// The Dockerfile's text, and how errors call it.
    pub(crate) dockerfile: String,
    pub(crate) name: String,
}

/// Takes the context in and finds the Dockerfile in it.
pub(crate) async fn receive(
    options: &Arc<BuilderOptions>,
    context: Context,
    request: &BuildRequest,
    teller: &Teller,
) -> Result<Received> {
    let (archive, whole) = match context {
        Context::Tar(stream) => {
            let tmp = options.tmp();
            let mut bridge = Bridge {
                stream,
                runtime: Handle::current(),
                cancel: teller.cancel().clone(),
            };
            let archive = blocking(move || Archive::read(&mut bridge, &tmp)).await;
            if teller.cancel().is_cancelled() {
                return Err(Error::cancelled());
            }
            (archive?, false)
        }
        Context::Remote(url) => match remote(options, &url).await? {
            Remote::Tree(archive) => (archive, true),
            Remote::Dockerfile(dockerfile) => {
                return Ok(Received {
                    archive: Archive::empty(&options.tmp())?,
                    dockerfile,
                    name: DOCKERFILE.into(),
                });
            }
        },
    };
    let named = request.dockerfile.clone();
    blocking(move || find_dockerfile(archive, &named, whole)).await
}

/// A stream read from a thread that may block.
struct Bridge {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    runtime: Handle,
    cancel: CancellationToken,
}

impl Read for Bridge {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Bridge {
            stream,
            runtime,
            cancel,
        } = self;
        runtime.block_on(async {
            tokio::select! {
                read = stream.read(buffer) => read,
                () = cancel.cancelled() => Err(io::Error::other("Build cancelled")),
            }
        })
    }
}

enum Remote {
    Tree(Archive),
    Dockerfile(String),
}

async fn remote(options: &Arc<BuilderOptions>, url: &str) -> Result<Remote> {
    if git::is_repository(url) {
        let repository = git::Repository::parse(url)?;
        return Ok(Remote::Tree(
            git::fetch(options, &repository, None, false).await?,
        ));
    }
    if !fetch::is_remote(url) {
        return Err(Error::invalid(format!(
            "remote URL {url} could not be recognised: it is neither a git repository nor http(s)"
        )));
    }
    let download = fetch::download(options, url, None).await?;
    let tmp = options.tmp();
    let url = url.to_owned();
    blocking(move || {
        let mut file = download.file;
        let failed =
            |e: io::Error| Error::from(berth_store::Error::io("cannot read what was fetched", e));
        let archive = is_archive(&mut file)?;
        io::Seek::rewind(&mut file).map_err(failed)?;
        if archive {
            return Archive::read(&mut file, &tmp).map(Remote::Tree);
        }
        let mut text = Vec::new();
        file.take(DOCKERFILE_MAX + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > DOCKERFILE_MAX {
            return Err(Error::invalid(format!(
                "{url} ({}) is neither a tar archive nor a Dockerfile",
                download.content_type
            )));
        }
        text_of(text, DOCKERFILE).map(Remote::Dockerfile)
    })
    .await
}

/// Whether what a stream holds, once decompressed, begins like a tar archive.
pub(crate) fn is_archive(source: &mut dyn Read) -> Result<bool> {
    const HEADER: usize = 512;
    let mut header = Vec::with_capacity(HEADER);
    // What cannot be decompressed is no archive.
    let Ok(plain) = decompress(source) else {
        return Ok(false);
    };
    let read = plain.take(HEADER as u64).read_to_end(&mut header);
    let Some(header) = read.ok().and_then(|_| header.first_chunk::<HEADER>()) else {
        return Ok(false);
    };
    let header = tar_core::Header::from_bytes(header);
    Ok(!header.is_empty() && header.verify_checksum().is_ok())
}

fn find_dockerfile(mut archive: Archive, named: &str, whole: bool) -> Result<Received> {
    let candidates = match named {
        "" => vec![DOCKERFILE, "dockerfile"],
        name => vec![name],
    };
    let mut found = None;
    for name in &candidates {
        let path = clean(&format!("/{name}"));
        let path = PathBuf::from(path.trim_start_matches('/'));
        if let Some(bytes) = archive.read_file(&path, DOCKERFILE_MAX)? {
            found = Some((path, bytes));
            break;
        }
    }
    let Some((path, bytes)) = found else {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("Cannot locate specified Dockerfile: {}", candidates[0]),
        ));
    };
    let name = path.display().to_string();
    let own = PathBuf::from(format!("{name}{IGNORE_FILE}"));
    for rules in [own.as_path(), Path::new(IGNORE_FILE)] {
        let Some(text) = archive.read_file(rules, IGNORE_FILE_MAX)? else {
            continue;
        };
        let ignore = Ignore::parse(&String::from_utf8_lossy(&text))?;
        if whole {
            archive.ignore(&ignore);
        } else {
            // A client has left the rest out; these two it has to send in any case.
            for file in [path.as_path(), rules] {
                if ignore.excludes(&file.to_string_lossy()) {
                    archive.remove_file(file);
                }
            }
        }
        break;
    }
    Ok(Received {
        archive,
        dockerfile: text_of(bytes, &name)?,
        name,
    })
}

/// Comments may be in whatever encoding they were written in; instructions are UTF-8.
fn text_of(bytes: Vec<u8>, name: &str) -> Result<String> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let bad = |line: &&str| {
        line.contains(char::REPLACEMENT_CHARACTER) && !line.trim_start().starts_with('#')
    };
    match text.lines().find(bad) {
        None => Ok(text),
        Some(line) => Err(Error::invalid(format!(
            "failed to parse {name}: not UTF-8 text: {line}"
        ))),
    }
}
