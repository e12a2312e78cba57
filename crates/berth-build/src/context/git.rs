//! Repositories, fetched by the `git` program. URL and reference come from users: nothing of them may
//! be taken for an option, a helper or a local path.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::builder::BuilderOptions;
use crate::source::Archive;
use crate::{Error, ErrorKind, Result};

/// Bytes of `git`'s complaints that are kept.
const COMPLAINT_MAX: usize = 2000;

/// `URL[#reference[:directory]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) url: String,
    /// A branch, a tag or a commit; the remote's default where it is empty.
    pub(crate) reference: String,
    /// Only what is below it.
    pub(crate) directory: String,
}

/// Whether a text names a repository.
pub(crate) fn is_repository(text: &str) -> bool {
    let url = text.split('#').next().unwrap_or(text);
    if url.starts_with("http://") || url.starts_with("https://") {
        let path = url.split('?').next().unwrap_or(url);
        return path.ends_with(".git");
    }
    url.starts_with("git://")
        || url.starts_with("ssh://")
        || url.starts_with("git@")
        || url.starts_with("github.com/")
}

impl Repository {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let url = match url.strip_prefix("github.com/") {
            Some(path) => format!("https://github.com/{path}"),
            None => url.to_owned(),
        };
        let printable = |text: &str| text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if url.len() > 2048 || !printable(&url) || url.starts_with('-') {
            return Err(Error::invalid(format!("invalid git URL {url:?}")));
        }
        // As `git check-ref-format` has it, as far as it matters here.
        let bad = reference.starts_with(['-', '+', '/'])
            || reference.len() > 255
            || !printable(reference)
            || reference.contains("..")
            || reference.contains(['~', '^', ':', '?', '*', '[', '\\']);
        if bad {
            return Err(Error::invalid(format!(
                "invalid git reference {reference:?}"
            )));
        }
        Ok(Repository {
            url,
            reference: reference.to_owned(),
            directory: directory.to_owned(),
        })
    }
}

/// Fetches what the repository names as a tree. With `commit` it has to be that commit.
pub(crate) async fn fetch(
    options: &BuilderOptions,
    repository: &Repository,
    commit: Option<&str>,
    keep_git_dir: bool,
) -> Result<Archive> {
    let directory = Scratch::new(&options.tmp())?;
    let git = Git {
        program: match options.git.as_os_str().is_empty() {
            true => Path::new("git"),
            false => &options.git,
        },
        directory: directory.path(),
    };
    git.run(&["init", "--quiet"]).await?;
    let reference = match repository.reference.as_str() {
        "" => "HEAD",
        reference => reference,
    };
    let fetched = git
        .run(&[
            "fetch",
            "--quiet",
            "--depth=1",
            "--end-of-options",
            &repository.url,
            reference,
        ])
        .await;
    if let Err(error) = fetched {
        // A commit that no branch ends at cannot be had alone from every server.
        let hash = reference.len() >= 7 && reference.bytes().all(|b| b.is_ascii_hexdigit());
        if !hash {
            return Err(error.within(&format!("cannot fetch {}", repository.url)));
        }
        git.run(&[
            "fetch",
            "--quiet",
            "--tags",
            "--end-of-options",
            &repository.url,
            "+refs/heads/*:refs/remotes/origin/*",
        ])
        .await?;
        git.run(&["checkout", "--quiet", "--detach", reference])
            .await?;
    } else {
        git.run(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])
            .await?;
    }
    if let Some(commit) = commit {
        let found = git.run(&["rev-parse", "HEAD"]).await?;
        if commit.len() < 7 || !found.trim().starts_with(&commit.to_ascii_lowercase()) {
            return Err(Error::invalid(format!(
                "expected checksum to match {commit}, got {}",
                found.trim()
            )));
        }
    }
    git.run(&[
        "submodule",
        "update",
        "--quiet",
        "--init",
        "--recursive",
        "--depth=1",
    ])
    .await?;
    let archive = pack(directory, keep_git_dir, options.tmp()).await?;
    match repository.directory.as_str() {
        "" => Ok(archive),
        below => {
            let path = crate::ignore::clean(&format!("/{below}"));
            let path = Path::new(path.trim_start_matches('/'));
            let found = crate::source::resolve(
                &|path| crate::source::Source::stat(&archive, path),
                path,
                true,
            )?;
            match found.node {
                Some(node) if node.is_dir() => archive.below(&found.path),
                _ => Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{below} is not a directory of {}", repository.url),
                )),
            }
        }
    }
}

/// Packs the checked-out tree and removes it.
async fn pack(directory: Scratch, keep_git_dir: bool, tmp: PathBuf) -> Result<Archive> {
    let packed = tokio::task::spawn_blocking(move || {
        use berth_store::tree::{PackOptions, pack};
        let fail =
            |e: std::io::Error| Error::from(berth_store::Error::io("cannot read the checkout", e));
        let root = berth_sys::root::RootFd::open(directory.path()).map_err(fail)?;
        let mut file = crate::source::unnamed_file(&tmp)?;
        pack(&root, Path::new("."), &mut file, &PackOptions::default())?;
        std::io::Seek::rewind(&mut file).map_err(fail)?;
        let mut archive = Archive::read(&mut file, &tmp)?;
        if !keep_git_dir {
            archive.ignore(&crate::ignore::Ignore::of(&[
                ".git".into(),
                "**/.git".into(),
            ])?);
        }
        Ok(archive)
    });
    packed.await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            format!("packing a checkout failed: {e}"),
        )
    })?
}

struct Git<'a> {
    program: &'a Path,
    directory: &'a Path,
}

impl Git<'_> {
    /// Runs `git` with settings under which a repository can do nothing but be read.
    async fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.program);
        command
            .args([
                "-c",
                "protocol.file.allow=never",
                "-c",
                "protocol.ext.allow=never",
            ])
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "core.fsmonitor=false",
            ])
            .args([
                "-c",
                "core.symlinks=true",
                "-c",
                "transfer.fsckObjects=true",
            ])
            .args(["-c", "advice.detachedHead=false"])
            .args(args)
            .current_dir(self.directory)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/true")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = command.output().await.map_err(|e| {
            Error::new(
                ErrorKind::Unavailable,
                format!(
                    "cannot run {}: {e} (git contexts need git on the host)",
                    self.program.display()
                ),
            )
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint: String = complaint.trim().chars().take(COMPLAINT_MAX).collect();
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("git {}: {complaint}", args.first().unwrap_or(&"")),
        ))
    }
}

/// A directory that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = parent.join(format!("build-git-{}", crate::output::random_id()?));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| {
                Error::from(berth_store::Error::io(
                    format_args!("cannot make {}", path.display()),
                    e,
                ))
            })?;
        Ok(Scratch(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a checkout");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        let parse = |text: &str| Repository::parse(text).map(|r| (r.url, r.reference, r.directory));
        let owned = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(
            parse("https://x.org/a.git#v1:sub/dir").unwrap(),
            owned("https://x.org/a.git", "v1", "sub/dir")
        );
        assert_eq!(
            parse("git@x.org:a/b.git").unwrap(),
            owned("git@x.org:a/b.git", "", "")
        );
        assert_eq!(
            parse("github.com/a/b#:docs").unwrap(),
            owned("https://github.com/a/b", "", "docs")
        );
        for bad in [
            "--upload-pack=touch /tmp/x;.git",
            "https://x/a.git#--upload-pack=x",
            "https://x/a.git#-x",
            "https://x/a.git#a..b",
            "https://x/a.git#a b",
            "https://x/a b.git",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(is_repository("https://x/a.git#b") && !is_repository("https://x/a.tar.gz"));
    }
}
