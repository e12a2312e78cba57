//! The store as a whole: its directories, its lock, its parts.
//!
//! ```text
//! <root>/lock         held as long as a process has the store open
//! <root>/berth.db     images, names, layers, snapshots, records (SQLite, WAL)
//! <root>/content/     blobs as they travelled: see `content`
//! <root>/layers/      see `layer`
//! <root>/containers/  see `snapshot`
//! <root>/trash/       condemned by the collector, on its way out; swept at start
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::db::Db;
use crate::images::Images;
use crate::lease::Leases;
use crate::records::Records;
use crate::roster::Roster;
use crate::sources::Sources;
use crate::tree::Extractor;
use crate::{Content, Error, ErrorKind, Layers, Lease, Result, Snapshots, collect, durable};

/// Where a store lies.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// What must survive a restart of the machine.
    pub root: PathBuf,
    /// What need not: mount points.
    pub run_dir: PathBuf,
    /// Who makes files out of what comes from outside.
    pub extractor: Extractor,
}

/// Content, layers, images and snapshots of one root directory; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Parts>);

struct Parts {
    content: Content,
    layers: Layers,
    snapshots: Snapshots,
    images: Images,
    records: Records,
    sources: Sources,
    db: Db,
    leases: Leases,
    extractor: Extractor,
    root: PathBuf,
    warnings: Vec<String>,
    /// Released by the kernel when the last clone goes, or the process.
    _lock: File,
}

impl Store {
    /// Opens the store below `options.root`, or makes it. What an earlier process left half done is
    /// removed. One process at a time.
    pub fn open(options: StoreOptions) -> Result<Self> {
        let StoreOptions {
            root,
            run_dir,
            extractor,
        } = options;
        durable::make_dir(&root)?;
        durable::make_dir(&run_dir)?;
        let lock = lock(&root)?;
        let opened = Db::open(&root.join("berth.db"))?;
        let content = Content::at(root.join("content"))?;
        let layers = Layers::at(
            root.join("layers"),
            &run_dir,
            opened.db.clone(),
            extractor.clone(),
        )?;
        let trash = root.join("trash");
        let (containers, db) = (root.join("containers"), opened.db.clone());
        let snapshots = Snapshots::at(containers, trash.clone(), db, layers.clone())?;
        let roster = Roster::at(&root);
        let restored = roster.restore(
            &opened.db,
            &|diff_id| diff_id.parse().is_ok_and(|d| layers.path(&d).is_dir()),
            &|digest| digest.parse().is_ok_and(|d| content.path(&d).is_file()),
        )?;
        match opened.moved_aside {
            None => collect::sweep_layers(&opened.db, &layers, &trash)?,
            Some(_) => snapshots.restore()?,
        }
        durable::empty_dir(&trash);
        let leases = Leases::default();
        let damage = match &opened.moved_aside {
            Some(aside) => Some(format!(
                "the image database was damaged and has been moved to {}; {} images with {} names were found again",
                aside.display(),
                restored.images,
                restored.names
            )),
            // These never change: nothing but damage makes them differ.
            None if restored.layers > 0 => Some(format!(
                "records in the image database were damaged and have been put back: {} layers, {} images, {} names",
                restored.layers, restored.images, restored.names
            )),
            None => None,
        };
        if damage.is_none() && restored.images + restored.names > 0 {
            // A removal that was broken off, as a rule: nobody was told that it was done.
            tracing::info!(
                images = restored.images,
                names = restored.names,
                "put back what the image database lacks"
            );
        }
        if let Some(damage) = &damage {
            tracing::warn!("{damage}");
        }
        let warnings = damage
            .into_iter()
            .chain(layers.trouble().map(str::to_owned))
            .collect();
        Ok(Store(Arc::new(Parts {
            images: Images::new(opened.db.clone(), content.clone(), roster),
            records: Records::new(opened.db.clone()),
            sources: Sources::new(opened.db.clone()),
            content,
            layers,
            snapshots,
            db: opened.db,
            leases,
            extractor,
            root,
            warnings,
            _lock: lock,
        })))
    }

    /// Blobs by digest.
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// Layers by diff ID.
    pub fn layers(&self) -> &Layers {
        &self.0.layers
    }

    /// Writable overlays over layers.
    pub fn snapshots(&self) -> &Snapshots {
        &self.0.snapshots
    }

    /// Images by ID and name.
    pub fn images(&self) -> &Images {
        &self.0.images
    }

    /// Small values that other crates keep here, and what they need kept.
    pub fn records(&self) -> &Records {
        &self.0.records
    }

    /// Where blobs are known to lie in registries.
    pub fn sources(&self) -> &Sources {
        &self.0.sources
    }

    /// A lease: hold it over every sequence of steps that needs content which nothing refers to yet.
    pub fn lease(&self) -> Result<Lease> {
        Ok(self.0.leases.lease())
    }

    /// Who unpacks and copies.
    pub fn extractor(&self) -> &Extractor {
        &self.0.extractor
    }

    /// What went wrong while opening and a user should know of.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The directory everything durable is below.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.0.root.join("trash")
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::io(format_args!("cannot open {}", path.display()), e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(
            ErrorKind::Conflict,
            format!("{} is in use by another engine", root.display()),
        )),
        Err(e) => Err(Error::io(format_args!("cannot lock {}", path.display()), e)),
    }
}
