//! The instructions as data. What stands in them is text from the Dockerfile, not yet expanded.

use berth_spec::oci::image::Healthcheck;

use super::lines::Heredoc;
use super::mount::Mount;

/// A whole Dockerfile.
#[derive(Debug)]
pub(crate) struct Dockerfile {
    /// `ARG`s before the first `FROM`.
    pub(crate) arguments: Vec<Command>,
    pub(crate) stages: Vec<Stage>,
    /// `\` or a backtick.
    pub(crate) escape: char,
    /// Each a line for the user.
    pub(crate) warnings: Vec<String>,
}

/// A `FROM` and what follows it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// An image, an earlier stage or `scratch`; variables not expanded.
    pub(crate) base: String,
    /// After `AS`, in lower case.
    pub(crate) name: Option<String>,
    pub(crate) platform: Option<String>,
    /// The `FROM` line as written.
    pub(crate) text: String,
    pub(crate) commands: Vec<Command>,
}

/// An instruction and its text.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) instruction: Instruction,
    /// As written, with continuation lines joined.
    pub(crate) text: String,
}

/// What an instruction says.
#[derive(Debug, Clone)]
pub(crate) enum Instruction {
    Add(Copy),
    Arg(Vec<(String, Option<String>)>),
    Cmd(CommandLine),
    Copy(Copy),
    Entrypoint(CommandLine),
    Env(Vec<(String, String)>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label {
        pairs: Vec<(String, String)>,
        /// Labels of `--label` are taken as they are.
        expand: bool,
    },
    Maintainer(String),
    Onbuild(String),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// A command in shell form or in exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// One text in shell form; `None` where nothing was given.
    pub(crate) args: Option<Vec<String>>,
    /// Whether the shell comes before it.
    pub(crate) shell: bool,
}

/// `RUN`.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) line: CommandLine,
    pub(crate) heredocs: Vec<Heredoc>,
    /// `--network`: `default`, `none` or `host`.
    pub(crate) network: Option<String>,
    pub(crate) mounts: Vec<Mount>,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copy {
    /// Paths, patterns, URLs.
    pub(crate) sources: Vec<String>,
    /// Files whose content stands in the Dockerfile.
    pub(crate) files: Vec<Heredoc>,
    pub(crate) destination: String,
    /// A stage, its number or an image.
    pub(crate) from: Option<String>,
    pub(crate) chown: Option<String>,
    pub(crate) chmod: Option<String>,
    /// Keep the directories of a source, from `/./` on where it has that.
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<String>,
    /// `ADD` only: what the remote file or commit must be.
    pub(crate) checksum: Option<String>,
    /// `ADD` only: whether archives are unpacked, where it was said.
    pub(crate) unpack: Option<bool>,
    /// `ADD` of a repository: keep `.git`.
    pub(crate) keep_git_dir: bool,
}
