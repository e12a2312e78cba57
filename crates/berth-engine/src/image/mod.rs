//! Images: one file a verb.

use berth_distribution::Credentials;
use berth_spec::docker::image::{HistoryEntry, ImageDeleted, ImagesPruned, SearchResult};
use berth_spec::docker::{ImageInspect, ImageSummary, JsonMessage};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use crate::container::ConfigEdit;
use crate::engine::absent;
use crate::{ByteStream, Filters};
use crate::{Engine, Result};

/// Which images [`list`] shows.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those without a name that others were built on, too.
    pub all: bool,
    pub filters: Filters,
    /// Compute how many bytes are shared.
    pub shared_size: bool,
}

/// What [`pull`] fetches.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// `fromImage`.
    pub image: String,
    /// `tag`: a tag or a digest; the image's own or `latest` where empty.
    pub tag: String,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
    pub auth: Option<Credentials>,
}

/// What [`push`] sends.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// A name without a tag.
    pub image: String,
    /// All tags of that name where empty.
    pub tag: String,
    pub auth: Option<Credentials>,
}

/// What [`import`] makes.
#[derive(Default)]
pub struct ImportRequest {
    /// The image's name; none where empty.
    pub repo: String,
    pub tag: String,
    pub message: String,
    pub platform: Option<String>,
    /// `--change`.
    pub edit: Option<ConfigEdit>,
}

/// Lines of progress, for the client's stream. Bounded; a reader that left stops nothing.
pub type ProgressLines = mpsc::Sender<JsonMessage>;

/// Lists images, the newest first.
pub async fn list(engine: &Engine, options: ListOptions) -> Result<Vec<ImageSummary>> {
    let _ = (engine, options);
    absent("images")
}

/// Describes an image.
pub async fn inspect(engine: &Engine, name: &str) -> Result<ImageInspect> {
    let _ = (engine, name);
    absent("image inspect")
}

/// Tells how an image came to be, the newest step first.
pub async fn history(engine: &Engine, name: &str) -> Result<Vec<HistoryEntry>> {
    let _ = (engine, name);
    absent("history")
}

/// Gives an image a further name.
pub async fn tag(engine: &Engine, name: &str, repo: &str, tag: &str) -> Result<()> {
    let _ = (engine, name, repo, tag);
    absent("tag")
}

/// Removes a name, and the image with its last one. `prune` takes its unnamed parents along.
pub async fn remove(
    engine: &Engine,
    name: &str,
    force: bool,
    prune: bool,
) -> Result<Vec<ImageDeleted>> {
    let _ = (engine, name, force, prune);
    absent("rmi")
}

/// Fetches an image from its registry. An error that comes before the first line has a kind of its own; answer it as such.
pub async fn pull(engine: &Engine, request: PullRequest, lines: ProgressLines) -> Result<()> {
    let _ = (engine, request, lines);
    absent("pull")
}

/// Sends an image to its registry.
pub async fn push(engine: &Engine, request: PushRequest, lines: ProgressLines) -> Result<()> {
    let _ = (engine, request, lines);
    absent("push")
}

/// Takes in images from an archive of `save`.
pub async fn load(
    engine: &Engine,
    tar: impl AsyncRead + Send + Unpin + 'static,
    quiet: bool,
    lines: ProgressLines,
) -> Result<()> {
    let _ = (engine, tar, quiet, lines);
    absent("load")
}

/// Writes images and what they need as an archive.
pub async fn save(engine: &Engine, names: Vec<String>) -> Result<ByteStream> {
    let _ = (engine, names);
    absent("save")
}

/// Makes an image of one layer from a tar of a root file system; answers its ID.
pub async fn import(
    engine: &Engine,
    request: ImportRequest,
    tar: impl AsyncRead + Send + Unpin + 'static,
) -> Result<String> {
    let _ = (engine, request, tar);
    absent("import")
}

/// Removes images without a name (all that no container uses, with the filter `dangling=false`).
pub async fn prune(engine: &Engine, filters: Filters) -> Result<ImagesPruned> {
    let _ = (engine, filters);
    absent("image prune")
}

/// Docker Hub cannot be searched by this engine.
pub async fn search(engine: &Engine, term: &str) -> Result<Vec<SearchResult>> {
    let _ = (engine, term);
    absent("search")
}
