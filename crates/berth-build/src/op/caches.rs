//! Cache mounts: directories of the host that outlive builds, and who uses which.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_store::disk::bytes_on_disk;
use tokio_util::sync::CancellationToken;

use crate::dockerfile::Sharing;
use crate::{Error, Result};

/// How often a wait for a cache looks whether the build was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(100);

/// Who uses which cache mounts. Builds of one engine share it.
#[derive(Clone, Default)]
pub(crate) struct Caches(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Users by directory name; -1 for one that wants to be alone.
    users: Mutex<HashMap<String, i64>>,
    changed: Condvar,
}

/// The use of one cache; ends with the value.
pub(crate) struct CacheHold {
    caches: Caches,
    /// The directory's name.
    pub(crate) name: String,
}

/// A cache that is there.
pub(crate) struct Listed {
    pub(crate) name: String,
    /// On disk.
    pub(crate) bytes: u64,
    /// When a name last came or went at its top.
    pub(crate) changed: jiff::Timestamp,
    pub(crate) in_use: bool,
}

impl Caches {
    fn users(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.0.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the cache `id` may be used that way. A private one that is taken is a new one.
    pub(crate) fn hold(
        &self,
        id: &str,
        sharing: Sharing,
        cancel: &CancellationToken,
    ) -> Result<CacheHold> {
        let base = blake3::hash(id.as_bytes()).to_hex();
        let mut users = self.users();
        let mut number = 0;
        loop {
            let name = match number {
                0 => base.to_string(),
                n => format!("{base}-{n}"),
            };
            let count = users.get(&name).copied().unwrap_or(0);
            let free = match sharing {
                Sharing::Shared => count >= 0,
                Sharing::Locked | Sharing::Private => count == 0,
            };
            if free {
                let now = if sharing == Sharing::Shared {
                    count + 1
                } else {
                    -1
                };
                users.insert(name.clone(), now);
                let caches = self.clone();
                return Ok(CacheHold { caches, name });
            }
            if sharing == Sharing::Private {
                number += 1;
                continue;
            }
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let waited = self.0.changed.wait_timeout(users, CANCEL_CHECK);
            users = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The directories below `root`.
    pub(crate) fn list(&self, root: &Path) -> std::io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let changed = entry.metadata()?.modified()?;
            found.push(Listed {
                in_use: self.users().contains_key(&name),
                name,
                bytes: bytes_on_disk(&entry.path()),
                changed: jiff::Timestamp::try_from(changed).unwrap_or_default(),
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Removes the directory `name` below `root`, unless somebody uses it.
    pub(crate) fn remove(&self, root: &Path, name: &str) -> std::io::Result<()> {
        let users = self.users();
        match users.contains_key(name) {
            true => Ok(()),
            false => std::fs::remove_dir_all(root.join(name)),
        }
    }

    /// Removes the directories below `root` that nobody uses; answers their bytes.
    pub(crate) fn prune(&self, root: &Path) -> std::io::Result<u64> {
        let users = self.users();
        let mut bytes = 0;
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            if users.contains_key(&*entry.file_name().to_string_lossy()) {
                continue;
            }
            bytes += bytes_on_disk(&entry.path());
            std::fs::remove_dir_all(entry.path())?;
        }
        Ok(bytes)
    }
}

impl Drop for CacheHold {
    fn drop(&mut self) {
        let mut users = self.caches.users();
        match users.get_mut(&self.name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(users.remove(&self.name)),
        }
        drop(users);
        self.caches.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_shared_locked_or_private() {
        let caches = Caches::default();
        let cancel = CancellationToken::new();
        let one = caches.hold("a", Sharing::Shared, &cancel).unwrap();
        let two = caches.hold("a", Sharing::Shared, &cancel).unwrap();
        assert_eq!(one.name, two.name);
        let alone = caches.hold("a", Sharing::Private, &cancel).unwrap();
        assert_ne!(alone.name, one.name);
        cancel.cancel();
        assert!(caches.hold("a", Sharing::Locked, &cancel).is_err());
        drop((one, two));
        assert!(caches.hold("a", Sharing::Locked, &cancel).is_ok());
        assert!(
            caches
                .hold("../b", Sharing::Shared, &cancel)
                .unwrap()
                .name
                .len()
                == 64
        );
    }
}
