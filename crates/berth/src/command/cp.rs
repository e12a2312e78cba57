//! `cp`, in both directions.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_client::{Body, Client};
use berth_spec::docker::container::PathStat;
use berth_store::tree::{self, Extractor, PackOptions, UnpackOptions};
use berth_sys::root::RootFd;
use data_encoding::BASE64;
use http::Method;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Takes, Verb};
use crate::archive;
use crate::cli::Cli;
use crate::failure::{Failure, Outcome, why};
use crate::format::size;
use crate::terminal;

/// Go's file mode of a directory.
const MODE_DIR: u32 = 1 << 31;
/// Go's file mode of a symbolic link.
const MODE_SYMLINK: u32 = 1 << 27;

#[derive(Debug, clap::Args)]
pub struct Copy {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    quiet: bool,
    words: Vec<String>,
}

impl Verb for Copy {
    const ARGUMENTS: &'static str = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t{program} cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH";
    const TAKES: Takes = Takes::Exactly(2);

    async fn run(self, cli: &Cli) -> Outcome {
        let (source, destination) = (self.words[0].as_str(), self.words[1].as_str());
        if source.is_empty() {
            return Err(Failure::new("source can not be empty"));
        }
        if destination.is_empty() {
            return Err(Failure::new("destination can not be empty"));
        }
        match (split(source), split(destination)) {
            (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")),
            (Some((container, path)), None) => {
                self.copy_out(cli, container, path, destination).await
            }
            (None, Some((container, path))) => {
                let client = cli.client().await?;
                self.copy_in(client, source, container, path).await
            }
            (None, None) => Err(Failure::new("must specify at least one container source")),
        }
    }
}

/// `container:path`; what begins like a path is a local one.
fn split(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) || text == "-" {
        return None;
    }
    text.split_once(':')
        .filter(|(container, _)| !container.is_empty())
}

/// The parent and the last part of a path inside a container. The last part of `/a/.` is
/// `.`, of `/a/` it is `a`.
fn parent_and_name(path: &str) -> (String, String) {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((parent, name)) => (parent.to_owned(), name.to_owned()),
        None if trimmed.is_empty() => ("/".to_owned(), String::new()),
        None => ("/".to_owned(), trimmed.to_owned()),
    }
}

/// A link's target as a path of its own.
fn resolve(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let (parent, _) = parent_and_name(path);
    format!("{}/{target}", parent.trim_end_matches('/'))
}

async fn stat(client: &Client, container: &str, path: &str) -> Outcome<PathStat> {
    let response = client
        .request(Method::HEAD, format!("/containers/{container}/archive"))
        .query("path", path)
        .send()
        .await?;
    decode(response.header("x-docker-container-path-stat"))
}

fn decode(header: Option<&str>) -> Outcome<PathStat> {
    let broken = || Failure::new("unable to decode container path stat header");
    let json = BASE64.decode(header.ok_or_else(broken)?.as_bytes());
    serde_json::from_slice(&json.map_err(|_| broken())?).map_err(|_| broken())
}

impl Copy {
    /// Whether nothing is told of the copy.
    fn silent(&self) -> bool {
        self.quiet || !terminal::stdout_is_terminal()
    }

    fn told(&self, bytes: u64, target: &str) {
        if !self.silent() {
            eprintln!(
                "Successfully copied {} to {target}",
                size::short(bytes as f64)
            );
        }
    }

    async fn copy_out(&self, cli: &Cli, container: &str, path: &str, destination: &str) -> Outcome {
        let client = cli.client().await?;
        let mut path = path.to_owned();
        let mut name = parent_and_name(&path).1;
        if self.follow_link {
            let found = stat(client, container, &path).await?;
            if found.mode & MODE_SYMLINK != 0 {
                path = resolve(&path, &found.link_target);
            }
        }
        let response = client
            .get(format!("/containers/{container}/archive"))
            .query("path", &path)
            .send()
            .await?;
        let found = decode(response.header("x-docker-container-path-stat"))?;
        let mut reader = response.reader();
        if destination == "-" {
            return to_stdout(&mut reader).await;
        }
        if name.is_empty() {
            name = found.name.clone();
        }
        let plan = Plan::new(destination, found.mode & MODE_DIR != 0, &name)?;
        let counted = Arc::new(AtomicU64::new(0));
        let (count, extractor) = (counted.clone(), cli.extractor.clone());
        archive::consume(reader, move |source| {
            plan.unpack(&extractor, source, &count)
        })
        .await??;
        let target = std::path::absolute(destination)?;
        self.told(
            counted.load(Ordering::Relaxed),
            &target.display().to_string(),
        );
        Ok(())
    }

    async fn copy_in(&self, client: &Client, source: &str, container: &str, path: &str) -> Outcome {
        let mut target = path.to_owned();
        let mut found = stat(client, container, &target).await.ok();
        if let Some(link) = found.as_ref().filter(|s| s.mode & MODE_SYMLINK != 0) {
            target = resolve(&target, &link.link_target);
            found = stat(client, container, &target).await.ok();
        }
        let is_dir = found.as_ref().map(|s| s.mode & MODE_DIR != 0);
        let counted = Arc::new(AtomicU64::new(0));
        let (directory, body) = if source == "-" {
            if is_dir != Some(true) {
                return Err(Failure::new(format!(
                    "destination \"{container}:{path}\" must be a directory"
                )));
            }
            (target.clone(), archive::stdin())
        } else {
            self.local_source(source, &target, is_dir, &counted)?
        };
        client
            .request(Method::PUT, format!("/containers/{container}/archive"))
            .query("path", &directory)
            .query("noOverwriteDirNonDir", "true")
            .query("copyUIDGID", if self.archive { "true" } else { "" })
            .body("application/x-tar", body)
            .done()
            .await?;
        self.told(
            counted.load(Ordering::Relaxed),
            &format!("{container}:{target}"),
        );
        Ok(())
    }

    /// The directory to unpack in, and the archive with the name its content gets there.
    fn local_source(
        &self,
        source: &str,
        target: &str,
        target_is_dir: Option<bool>,
        counted: &Arc<AtomicU64>,
    ) -> Outcome<(String, Body)> {
        let missing = |e: io::Error| Failure::new(format!("lstat {source}: {}", why(&e)));
        let slash = source.ends_with('/') || source.ends_with("/.");
        let follow = self.follow_link || slash;
        let meta = if follow {
            fs::metadata(source)
        } else {
            fs::symlink_metadata(source)
        };
        let is_dir = meta.map_err(missing)?.is_dir();
        let content_only = source == "." || source.ends_with("/.");
        let absolute = crate::option::mount::clean_absolute(source);
        let own = Path::new(&absolute)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let (parent, last) = parent_and_name(target);
        let (directory, name) = match target_is_dir {
            Some(true) if content_only => (target.to_owned(), String::new()),
            Some(true) => (target.to_owned(), own),
            Some(false) if is_dir => return Err(Failure::new("cannot copy directory")),
            None if !is_dir && target.ends_with('/') => {
                return Err(Failure::new("no such directory"));
            }
            Some(false) | None => (parent, last),
        };
        let counted = counted.clone();
        let body = archive::body(move |out| {
            let root = RootFd::open(Path::new("/"))?;
            let options = PackOptions {
                name: Some(&name),
                follow,
                ..PackOptions::default()
            };
            let packed = tree::pack(&root, Path::new(&absolute), out, &options);
            counted.store(packed.map_err(io::Error::other)?, Ordering::Relaxed);
            Ok(())
        });
        Ok((directory, body))
    }
}

async fn to_stdout(reader: &mut (impl AsyncRead + Unpin)) -> Outcome {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(io::stdout().flush()?),
            length => io::stdout().lock().write_all(&buffer[..length])?,
        }
    }
}

/// Where an archive from a container goes.
#[derive(Debug)]
enum Plan {
    /// Into this directory, under its own name.
    Into(PathBuf),
    /// Under another name: unpacked aside in the parent, then put in place.
    As(PathBuf),
}

impl Plan {
    fn new(destination: &str, is_dir: bool, name: &str) -> Outcome<Self> {
        let path = std::path::absolute(destination)?;
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(Plan::Into(path)),
            Ok(_) if is_dir => Err(Failure::new("cannot copy directory")),
            Ok(_) => Ok(Plan::As(path)),
            Err(_) if destination.ends_with('/') && !is_dir => {
                Err(Failure::new("no such directory"))
            }
            Err(_) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                if !parent.is_dir() {
                    return Err(Failure::new(format!(
                        "invalid output path: directory {:?} does not exist",
                        parent.display().to_string()
                    )));
                }
                if is_dir && matches!(name, "." | "/") {
                    fs::create_dir(&path)?;
                    return Ok(Plan::Into(path));
                }
                Ok(Plan::As(path))
            }
        }
    }

    fn unpack(self, extractor: &Extractor, source: impl Read, count: &AtomicU64) -> Outcome {
        let mut source = Counted(source, count);
        match self {
            Plan::Into(directory) => unpack_into(extractor, &directory, &mut source),
            Plan::As(path) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                let aside = tempfile::Builder::new()
                    .prefix(".berth-cp-")
                    .tempdir_in(parent)?;
                unpack_into(extractor, aside.path(), &mut source)?;
                let only = fs::read_dir(aside.path())?
                    .next()
                    .ok_or_else(|| Failure::new("the archive is empty"))??;
                Ok(fs::rename(only.path(), &path)?)
            }
        }
    }
}

fn unpack_into(extractor: &Extractor, directory: &Path, source: &mut dyn Read) -> Outcome {
    let root = RootFd::open(directory)?;
    // Only root may give files away; anyone else's copies are their own.
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let options = UnpackOptions {
        owner: Some(own),
        no_overwrite_dir_non_dir: true,
        keep_directories: true,
        ..UnpackOptions::default()
    };
    extractor
        .unpack(&root, Path::new("."), source, &options)
        .map(drop)
        .map_err(|e| Failure::new(e.to_string()))
}

struct Counted<'a, R>(R, &'a AtomicU64);

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buf)?;
        self.1.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_containers_or_paths() {
        assert_eq!(split("c:/a"), Some(("c", "/a")));
        assert_eq!(split("/a:b"), None);
        assert_eq!(split("./c:a"), None);
        assert_eq!(split("a"), None);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(parent_and_name("/a/b"), pair("/a", "b"));
        assert_eq!(parent_and_name("/a/"), pair("/", "a"));
        assert_eq!(parent_and_name("/"), pair("/", ""));
        assert_eq!(resolve("/a/b", "c"), "/a/c");
        assert_eq!(resolve("/a/b", "/c"), "/c");
    }
}
