//! `COPY` and `ADD`: sources are found and hashed, then looked up, then copied.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use berth_spec::Digest;

use crate::cache::Outcome;
use crate::context::fetch::{self, Fetched};
use crate::copy::{Item, Manner, ModeChange, NewLayer, find_owner};
use crate::dockerfile::{Copy, Expander, Variables};
use crate::graph::KeyMaker;
use crate::ignore::{Ignore, clean};
use crate::solve::{Solver, State};
use crate::source::{self, Archive, NodeKind, Rootfs, Source, shown};
use crate::variables::in_scope;
use crate::{Error, ErrorKind, Result, context, glob};

/// The instruction with its variables expanded.
struct Request {
    name: &'static str,
    sources: Vec<String>,
    destination: String,
    chown: Option<String>,
    chmod: Option<String>,
    exclude: Vec<String>,
    parents: bool,
    from: Option<String>,
}

/// Something to copy, found.
struct Found {
    tree: Tree,
    path: PathBuf,
    /// Its last name as it was asked for.
    name: PathBuf,
    /// Directories between the destination and it, with `--parents`.
    parents: PathBuf,
    is_dir: bool,
    hash: String,
    /// An archive to unpack.
    unpack: bool,
}

/// Which tree something is in.
#[derive(Clone, Copy)]
enum Tree {
    Context,
    Image,
    /// A file or repository that was fetched, a heredoc, or an unpacked archive.
    Extra(usize),
}

/// The trees of one instruction.
struct Trees<'a> {
    context: &'a Archive,
    image: Option<Rootfs>,
    extra: Vec<Archive>,
}

impl Trees<'_> {
    fn get(&self, tree: Tree) -> Result<&dyn Source> {
        match tree {
            Tree::Context => Ok(self.context),
            Tree::Image => match &self.image {
                Some(image) => Ok(image),
                None => Err(Error::invalid("there is no image to copy from")),
            },
            Tree::Extra(index) => Ok(&self.extra[index]),
        }
    }
}

pub(crate) fn copy(
    solver: &mut Solver,
    state: &mut State,
    copy: &Copy,
    name: &'static str,
) -> Result<()> {
    let variables = in_scope(&state.image.config.env, &state.arguments);
    let request = expanded(copy, name, &variables, solver.job.file.escape)?;
    let source_layers = match &request.from {
        Some(from) => Some(solver.layers_of(from, state.stage)?),
        None => None,
    };
    // What comes from another stage is known by that stage's layers before a file of it is read.
    let by_layers = source_layers
        .as_ref()
        .map(|layers| key(state, &request, &layer_parts(layers, &request)));
    if let Some(outcome) = by_layers
        .as_ref()
        .map(|key| solver.known(key))
        .transpose()?
        .flatten()
    {
        return state.record(&outcome);
    }
    let image = source_layers
        .map(|layers| Rootfs::open(solver.store(), &layers))
        .transpose()?;
    let mut trees = Trees {
        context: &solver.job.context,
        image,
        extra: heredocs(solver, copy, &variables)?,
    };
    let found = find_all(solver, &mut trees, &request, copy)
        .map_err(|e| e.within(&format!("{name} failed")))?;
    if found.len() > 1 && !request.destination.ends_with('/') && !request.parents {
        return Err(Error::invalid(format!(
            "When using {name} with more than one source file, the destination must be a directory and end with a /"
        )));
    }
    let hashes: Vec<String> = found.iter().map(|f| f.hash.clone()).collect();
    let by_content = key(state, &request, &content_parts(&found));
    let outcome = match solver.known(&by_content)? {
        Some(outcome) => outcome,
        None => {
            let layer = make(solver, state, &request, &mut trees, &found)?;
            let chown = request.chown.as_ref().map(|c| format!("--chown={c}"));
            let comment = format!(
                "{name} {}{} in {} ",
                chown.unwrap_or_default(),
                source_hash(&hashes),
                request.destination
            );
            Outcome {
                created: solver.now(),
                layer,
                created_by: state.nop(&comment),
            }
        }
    };
    for key in by_layers.iter().chain([&by_content]) {
        solver.learn(key, &outcome)?;
    }
    state.record(&outcome)
}

fn expanded(
    copy: &Copy,
    name: &'static str,
    variables: &Variables,
    escape: char,
) -> Result<Request> {
    let expander = Expander::new(escape);
    let word = |text: &String| expander.word(text, variables);
    Ok(Request {
        name,
        sources: copy.sources.iter().map(word).collect::<Result<_>>()?,
        destination: word(&copy.destination)?,
        chown: copy
            .chown
            .as_ref()
            .map(word)
            .transpose()?
            .filter(|c| !c.is_empty()),
        chmod: copy
            .chmod
            .as_ref()
            .map(word)
            .transpose()?
            .filter(|c| !c.is_empty()),
        exclude: copy.exclude.iter().map(word).collect::<Result<_>>()?,
        parents: copy.parents,
        from: copy.from.clone(),
    })
}

/// The vertex key: what is below, what is copied, how.
fn key(state: &State, request: &Request, sources: &[String]) -> String {
    let mut key = KeyMaker::new("copy");
    key.layers(state.layers())
        .part(request.name)
        .part(destination(state, &request.destination))
        .part(request.chown.as_deref().unwrap_or_default())
        .part(request.chmod.as_deref().unwrap_or_default())
        .part([u8::from(request.parents), u8::from(request.from.is_some())])
        .parts(&request.exclude)
        .parts(sources);
    key.finish()
}

fn layer_parts(layers: &[Digest], request: &Request) -> Vec<String> {
    let layers = layers.iter().map(|layer| layer.to_string());
    let sources = request.sources.iter().cloned();
    ["by layers".to_owned()]
        .into_iter()
        .chain(layers)
        .chain(sources)
        .collect()
}

fn content_parts(found: &[Found]) -> Vec<String> {
    let part = |file: &Found| {
        let name = file.parents.join(&file.name);
        let how = if file.unpack { "unpacked" } else { "" };
        [
            file.hash.clone(),
            name.display().to_string(),
            how.to_owned(),
        ]
    };
    found.iter().flat_map(part).collect()
}

/// The hash that a history shows.
fn source_hash(hashes: &[String]) -> String {
    match hashes {
        [one] => one.clone(),
        many => {
            let digest = berth_store::hash::sha256(many.join(",").as_bytes());
            format!("multi:{}", digest.hex())
        }
    }
}

/// Absolute; ends in `/` where it has to be a directory.
fn destination(state: &State, text: &str) -> String {
    let joined = match text.starts_with('/') {
        true => text.to_owned(),
        false => format!("/{}/{text}", state.image.config.working_dir),
    };
    let directory = text.ends_with('/') || text == "." || text.ends_with("/.");
    let clean = clean(&joined);
    match directory && clean != "/" {
        true => format!("{clean}/"),
        false => clean,
    }
}

/// Files whose content stands in the Dockerfile.
fn heredocs(solver: &Solver, copy: &Copy, variables: &Variables) -> Result<Vec<Archive>> {
    let expander = Expander::new('\\');
    copy.files
        .iter()
        .map(|file| {
            let mut text = file.data();
            if file.expand {
                text = expander.heredoc(&text, variables)?;
            }
            let directory = &solver.job.options.tmp();
            Archive::of_file(&file.name, &mut text.as_bytes(), directory, 0o644, 0)
        })
        .collect()
}

fn find_all(
    solver: &Solver,
    trees: &mut Trees,
    request: &Request,
    copy: &Copy,
) -> Result<Vec<Found>> {
    let exclude = Ignore::of(&request.exclude)?;
    let mut found = Vec::new();
    for (index, file) in copy.files.iter().enumerate() {
        let tree = Tree::Extra(index);
        found.push(find_one(
            trees,
            tree,
            Path::new(&file.name),
            request,
            &exclude,
        )?);
    }
    for text in &request.sources {
        if request.name == "ADD" && fetch::is_remote(text) {
            found.push(remote(solver, trees, text, request, copy, &exclude)?);
            continue;
        }
        if request.name == "COPY" && request.from.is_none() && fetch::is_remote(text) {
            return Err(Error::invalid("source can't be a URL for COPY"));
        }
        let tree = if request.from.is_some() {
            Tree::Image
        } else {
            Tree::Context
        };
        let start = found.len();
        found.extend(find(trees, tree, text, request, &exclude)?);
        if request.name == "ADD" && copy.unpack != Some(false) {
            for file in &mut found[start..] {
                file.unpack = !file.is_dir && is_archive(trees.get(tree)?, &file.path)?;
            }
        }
    }
    if found.is_empty() {
        return Err(Error::invalid("no source files were specified"));
    }
    Ok(found)
}

/// The things that one source names.
fn find(
    trees: &Trees,
    tree: Tree,
    text: &str,
    request: &Request,
    exclude: &Ignore,
) -> Result<Vec<Found>> {
    // `..` stops at the root of the context.
    let (pivot, rest) = match request.parents.then(|| text.split_once("/./")).flatten() {
        Some((pivot, rest)) => (clean(&format!("/{pivot}")), rest.to_owned()),
        None => ("/".to_owned(), text.to_owned()),
    };
    let path = clean(&format!("{pivot}/{rest}"));
    let path = path.trim_start_matches('/');
    let source = trees.get(tree)?;
    let paths = match glob::is_pattern(path) {
        true => source::expand(source, path)?,
        false => vec![PathBuf::from(path)],
    };
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.is_empty() && exclude.excludes(&name) {
            continue;
        }
        let mut one = find_one(trees, tree, &path, request, exclude)?;
        if request.parents {
            let below = path
                .strip_prefix(pivot.trim_start_matches('/'))
                .unwrap_or(&path);
            one.parents = below.parent().unwrap_or(Path::new("")).to_owned();
        }
        found.push(one);
    }
    Ok(found)
}

fn find_one(
    trees: &Trees,
    tree: Tree,
    path: &Path,
    request: &Request,
    exclude: &Ignore,
) -> Result<Found> {
    let source = trees.get(tree)?;
    let resolved = source::resolve(&|path| source.stat(path), path, true);
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(e) if e.kind() == ErrorKind::Invalid => return Err(e),
        Err(e) => return Err(e.within(&shown(path))),
    };
    let Some(node) = resolved.node else {
        let why = match request.from {
            Some(_) => "",
            None => "file not found in build context or excluded by .dockerignore: ",
        };
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("{why}stat {}: file does not exist", path.display()),
        ));
    };
    let keep_owner = request.from.is_some() && request.chown.is_none();
    let hash = source::hash(source, &resolved.path, keep_owner, exclude)?;
    let kind = if node.is_dir() { "dir" } else { "file" };
    Ok(Found {
        tree,
        name: path.file_name().map(PathBuf::from).unwrap_or_default(),
        parents: PathBuf::new(),
        is_dir: node.is_dir(),
        path: resolved.path,
        hash: format!("{kind}:{}", data_encoding::HEXLOWER.encode(&hash)),
        unpack: false,
    })
}

/// `ADD` of a URL.
fn remote(
    solver: &Solver,
    trees: &mut Trees,
    url: &str,
    request: &Request,
    copy: &Copy,
    exclude: &Ignore,
) -> Result<Found> {
    let wanted = fetch::Wanted {
        url,
        checksum: copy.checksum.as_deref(),
        keep_git_dir: copy.keep_git_dir,
    };
    let job = &solver.job;
    let cancel = job.teller.cancel();
    let fetched = job.runtime.block_on(async {
        tokio::select! {
            fetched = fetch::fetch(&job.options, &wanted) => fetched,
            () = cancel.cancelled() => Err(Error::cancelled()),
        }
    })?;
    let (archive, path) = match fetched {
        Fetched::File {
            archive,
            name: Some(name),
        } => (archive, name),
        Fetched::File {
            archive,
            name: None,
        } if !request.destination.ends_with('/') => (archive, fetch::UNNAMED.to_owned()),
        Fetched::File { .. } => {
            return Err(Error::invalid(format!(
                "cannot determine filename for source {url}"
            )));
        }
        Fetched::Tree(archive) => (archive, String::new()),
    };
    let tree = Tree::Extra(trees.extra.len());
    trees.extra.push(archive);
    let mut found = find_one(trees, tree, Path::new(&path), request, exclude)?;
    // What comes over the network is unpacked only where that was asked for.
    found.unpack =
        copy.unpack == Some(true) && !found.is_dir && is_archive(trees.get(tree)?, &found.path)?;
    Ok(found)
}

/// Whether a file is a tar archive, plain or compressed.
fn is_archive(source: &dyn Source, path: &Path) -> Result<bool> {
    let is_file = source
        .stat(path)?
        .is_some_and(|node| matches!(node.kind, NodeKind::File(_)));
    if !is_file {
        return Ok(false);
    }
    context::is_archive(&mut source.open(path)?)
}

/// Copies, and answers the layer, if anything is in it.
fn make(
    solver: &Solver,
    state: &State,
    request: &Request,
    trees: &mut Trees,
    found: &[Found],
) -> Result<Option<Digest>> {
    let mut unpacked: HashMap<usize, usize> = HashMap::new();
    for (index, file) in found.iter().enumerate().filter(|(_, file)| file.unpack) {
        let archive = {
            let mut content = trees.get(file.tree)?.open(&file.path)?;
            Archive::read(&mut content, &solver.job.options.tmp())
        };
        let archive = archive
            .map_err(|e| e.within(&format!("failed to copy files: {}", shown(&file.path))))?;
        unpacked.insert(index, trees.extra.len());
        trees.extra.push(archive);
    }
    let below = Rootfs::open(solver.store(), state.layers())?;
    let manner = Manner {
        owner: request
            .chown
            .as_ref()
            .map(|text| find_owner(text, &below))
            .transpose()
            .map_err(|e| e.within("unable to convert uid/gid chown string to host mapping"))?,
        keep_owner: request.from.is_some(),
        mode: request
            .chmod
            .as_deref()
            .map(ModeChange::parse)
            .transpose()?,
        exclude: Ignore::of(&request.exclude)?,
    };
    let destination = destination(state, &request.destination);
    let mut layer = NewLayer::new(&below, 0);
    for (index, file) in found.iter().enumerate() {
        let archive = unpacked
            .get(&index)
            .map(|extra| &trees.extra[*extra] as &dyn Source);
        let item = Item {
            source: match archive {
                Some(archive) => archive,
                None => trees.get(file.tree)?,
            },
            path: if archive.is_some() {
                PathBuf::new()
            } else {
                file.path.clone()
            },
            name: file.name.clone(),
            unpacked: archive.is_some(),
        };
        let mut target = destination.clone();
        if request.parents {
            let inside = if file.is_dir {
                file.parents.join(&file.name)
            } else {
                file.parents.clone()
            };
            target = format!(
                "{}/{}/",
                destination.trim_end_matches('/'),
                inside.display()
            );
        } else if archive.is_some() && !target.ends_with('/') {
            target.push('/');
        }
        layer
            .copy(&[item], &target, &manner)
            .map_err(|e| e.within("failed to copy files"))?;
    }
    if layer.is_empty() {
        return Ok(None);
    }
    let layers = solver.store().layers();
    let mut stream = layer.stream();
    Ok(Some(
        layers.import(&solver.lease, &mut stream, None)?.diff_id,
    ))
}
