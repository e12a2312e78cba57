//! One engine per data root: a lock on the root, and the PID file that others look at.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// Held as long as the engine runs.
pub struct Lock {
    _root: File,
    pidfile: Option<PathBuf>,
}

/// Makes a directory of the engine's own, closed to others.
pub fn private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

impl Lock {
    /// Takes the root, or says who has it; then writes the PID file.
    pub fn take(data_root: &Path, pidfile: Option<&Path>) -> anyhow::Result<Self> {
        let path = data_root.join("engine.lock");
        let root = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                "another engine uses {}: stop it, or give this one a --data-root, --exec-root, --bip and -H of its own",
                data_root.display()
            ),
            Err(e) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
        if let Some(pidfile) = pidfile {
            write_pidfile(pidfile)?;
        }
        Ok(Self {
            _root: root,
            pidfile: pidfile.map(Path::to_owned),
        })
    }
}

fn write_pidfile(path: &Path) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let aside = path.with_extension("pid.new");
    let written = File::create(&aside)
        .and_then(|mut file| write!(file, "{}", std::process::id()))
        .and_then(|()| fs::rename(&aside, path));
    written.with_context(|| format!("cannot write the PID file {}", path.display()))
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(pidfile) = &self.pidfile {
            // Already gone is as good.
            let _ = fs::remove_file(pidfile);
        }
    }
}
