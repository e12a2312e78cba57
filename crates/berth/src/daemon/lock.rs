//! One engine per data root: a lock on the root, and the PID file that others look at.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// What the lock's file says of an engine that is about to let go of it.
const ENDING: &str = "ending\n";
/// An engine that was asked to end a moment ago may not have said so yet.
const MOMENT: Duration = Duration::from_millis(500);
/// How long an engine that says that it ends is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Held as long as the engine runs.
pub struct Lock {
    root: File,
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
        if !wait_for(&root, &path).with_context(|| format!("cannot lock {}", path.display()))? {
            bail!(
                "another engine uses {}: stop it, or give this one a --data-root, --exec-root, --bip and -H of its own",
                data_root.display()
            );
        }
        root.set_len(0)
            .with_context(|| format!("cannot write {}", path.display()))?;
        if let Some(pidfile) = pidfile {
            write_pidfile(pidfile)?;
        }
        Ok(Self {
            root,
            pidfile: pidfile.map(Path::to_owned),
        })
    }
}

/// Locks the file; false if somebody has it who is not just ending.
fn wait_for(root: &File, path: &Path) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        match flock(root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(e) => return Err(e.into()),
        }
        let ending = fs::read_to_string(path)? == ENDING;
        let patience = if ending { PATIENCE } else { MOMENT };
        if began.elapsed() > patience {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
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

impl Lock {
    /// Tells an engine that waits for the root that it will have it soon.
    pub fn ending(&self) {
        // Whoever is not told waits less long.
        if let Err(e) = (&self.root).write_all(ENDING.as_bytes()) {
            tracing::debug!("an engine that starts now may not wait for this one: {e}");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(pidfile) = &self.pidfile {
            // Already gone is as good.
            let _ = fs::remove_file(pidfile);
        }
    }
}
