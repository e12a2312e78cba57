//! Files and repositories from the network: `ADD URL`, and contexts that are URLs.

use std::io::{self, Write};
use std::path::Path;

use futures_util::StreamExt;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LAST_MODIFIED};

use super::git::{self, Repository};
use crate::builder::BuilderOptions;
use crate::source::{Archive, unnamed_file};
use crate::{Error, ErrorKind, Result};

/// What a file is called for which neither its URL nor its server has a name.
pub(crate) const UNNAMED: &str = "__unnamed__";
/// Bytes that a fetched file may have.
const FILE_MAX: u64 = 64 << 30;

/// What to fetch.
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    /// `sha256:…` of a file, a commit of a repository.
    pub(crate) checksum: Option<&'a str>,
    pub(crate) keep_git_dir: bool,
}

/// What came.
pub(crate) enum Fetched {
    /// A tree of one file, and its name, where it has one.
    File {
        archive: Archive,
        name: Option<String>,
    },
    Tree(Archive),
}

/// A file on its way in.
pub(crate) struct Download {
    pub(crate) file: std::fs::File,
    pub(crate) name: Option<String>,
    pub(crate) content_type: String,
    /// Seconds since 1970; 0 where the server does not say.
    pub(crate) modified: i64,
}

/// Whether a source of `ADD` is to be fetched.
pub(crate) fn is_remote(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://") || git::is_repository(text)
}

/// Fetches a file or a repository.
pub(crate) async fn fetch(options: &BuilderOptions, wanted: &Wanted<'_>) -> Result<Fetched> {
    if git::is_repository(wanted.url) {
        let repository = Repository::parse(wanted.url)?;
        let archive =
            git::fetch(options, &repository, wanted.checksum, wanted.keep_git_dir).await?;
        return Ok(Fetched::Tree(archive));
    }
    let download = download(options, wanted.url, wanted.checksum).await?;
    let name = download.name.clone();
    let mut file = download.file;
    let inside = name.as_deref().unwrap_or(UNNAMED);
    let archive = Archive::of_file(inside, &mut file, &options.tmp(), 0o600, download.modified)?;
    Ok(Fetched::File { archive, name })
}

/// Downloads a file into one without a name, read from its start.
pub(crate) async fn download(
    options: &BuilderOptions,
    url: &str,
    checksum: Option<&str>,
) -> Result<Download> {
    let expected = checksum
        .map(|text| {
            text.parse::<berth_spec::Digest>()
                .map_err(|e| Error::invalid(e.to_string()))
        })
        .transpose()?;
    let unreachable = |e: reqwest::Error| {
        Error::new(
            ErrorKind::Unavailable,
            format!("cannot fetch {url}: {}", causes(&e)),
        )
    };
    let client = client(options)?;
    let response = client.get(url).send().await.map_err(unreachable)?;
    let status = response.status();
    if !status.is_success() {
        let kind = match status.as_u16() {
            404 | 410 => ErrorKind::NotFound,
            401 | 403 => ErrorKind::Unauthorized,
            _ => ErrorKind::Unavailable,
        };
        return Err(Error::new(
            kind,
            format!("failed to GET {url} with status {status}"),
        ));
    }
    let header = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let name = file_name(
        response.url().path(),
        header(CONTENT_DISPOSITION).as_deref(),
    );
    let modified = header(LAST_MODIFIED)
        .and_then(|text| http_date(&text))
        .unwrap_or(0);
    let content_type = header(CONTENT_TYPE).unwrap_or_default();
    let mut file = unnamed_file(&options.tmp())?;
    let mut hasher = match &expected {
        Some(digest) => berth_store::hash::Hasher::with(digest.algorithm()),
        None => berth_store::hash::Hasher::new(),
    };
    let mut size = 0u64;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(unreachable)?;
        size += chunk.len() as u64;
        if size > FILE_MAX {
            return Err(Error::invalid(format!(
                "{url} has more than {FILE_MAX} bytes"
            )));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).map_err(kept)?;
    }
    let digest = hasher.finish();
    if let Some(expected) = expected
        && expected != digest
    {
        return Err(Error::invalid(format!(
            "digest mismatch {digest}: {expected}"
        )));
    }
    io::Seek::rewind(&mut file).map_err(kept)?;
    Ok(Download {
        file,
        name,
        content_type,
        modified,
    })
}

fn kept(error: io::Error) -> Error {
    berth_store::Error::io("cannot keep what was fetched", error).into()
}

/// An error with what caused it, since the outermost text says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        text = format!("{text}: {cause}");
        inner = cause.source();
    }
    text
}

/// A client that goes the ways the engine goes to registries.
fn client(options: &BuilderOptions) -> Result<reqwest::Client> {
    let ways = options.client.options();
    let failed = |e: reqwest::Error| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot set up a connection: {}", causes(&e)),
        )
    };
    let exceptions = ways
        .no_proxy
        .as_deref()
        .and_then(reqwest::NoProxy::from_string);
    let mut builder = reqwest::Client::builder()
        .user_agent(&ways.user_agent)
        .no_proxy()
        .connect_timeout(std::time::Duration::from_secs(30))
        .read_timeout(std::time::Duration::from_secs(300));
    if let Some(url) = &ways.http_proxy {
        let proxy = reqwest::Proxy::http(url).map_err(failed)?;
        builder = builder.proxy(proxy.no_proxy(exceptions.clone()));
    }
    if let Some(url) = &ways.https_proxy {
        let proxy = reqwest::Proxy::https(url).map_err(failed)?;
        builder = builder.proxy(proxy.no_proxy(exceptions));
    }
    builder.build().map_err(failed)
}

/// A file's name: the last of the URL's path, else what the server says.
fn file_name(path: &str, disposition: Option<&str>) -> Option<String> {
    let good = |name: &str| {
        let plain = Path::new(name).file_name()?.to_str()?;
        (plain == name).then(|| name.to_owned())
    };
    let last = path.rsplit('/').next().filter(|name| !name.is_empty());
    if let Some(name) = last.and_then(good) {
        return Some(name);
    }
    let fields = disposition?.split(';').skip(1);
    let named = fields.into_iter().find_map(|field| {
        let (key, value) = field.split_once('=')?;
        (key.trim().eq_ignore_ascii_case("filename")).then(|| value.trim().trim_matches('"'))
    })?;
    good(named.rsplit('/').next()?)
}

/// `Wed, 21 Oct 2015 07:28:00 GMT` as seconds since 1970.
fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (path, disposition, expected) in [
            ("/a/b.tar.gz", None, Some("b.tar.gz")),
            ("/a/", None, None),
            ("/", Some("attachment; filename=\"x.txt\""), Some("x.txt")),
            (
                "/",
                Some("attachment; filename=../../etc/passwd"),
                Some("passwd"),
            ),
            ("/..", None, None),
            ("/", Some("attachment; filename=.."), None),
        ] {
            assert_eq!(file_name(path, disposition).as_deref(), expected, "{path}");
        }
        assert_eq!(
            http_date("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(1_445_412_480)
        );
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn what_is_remote() {
        for remote in [
            "http://x/y",
            "https://x/y.tar",
            "git://x/y",
            "git@x.org:a/b.git",
        ] {
            assert!(is_remote(remote), "{remote}");
        }
        for local in ["x", "/x", "git", "ftp://x", "httpx"] {
            assert!(!is_remote(local), "{local}");
        }
    }
}
