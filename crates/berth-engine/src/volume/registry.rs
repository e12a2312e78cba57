//! The volumes of an engine.
//!
//! ```text
//! <root>/volumes/<name>/_data    what is mounted
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_spec::docker::volume::VolumeUsage;
use berth_spec::docker::{Volume, VolumeCreateBody};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::plan::check_volume_name;
use crate::db::{Batch, Db, Kind};
use crate::{Error, Result};

/// Marks volumes that Docker calls anonymous.
pub(crate) const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What a volume's directory is called from its removal on, with its name behind it. No volume is
/// called so: names begin with a letter or a digit.
const CONDEMNED: &str = ".removed-";

/// What is kept of a volume.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    pub name: String,
    pub created: Timestamp,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Something was mounted from it, or copied into it: an image's files are not copied again.
    #[serde(default)]
    pub used: bool,
    /// Of a container that has no record yet, or none any more: should the engine end before somebody
    /// has the volume or it is removed, it goes at the next start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

/// What is known of volumes.
#[derive(Default)]
struct Index {
    records: BTreeMap<String, VolumeRecord>,
    /// IDs of containers on their way to a record, by the volume that they will use.
    claims: BTreeMap<String, BTreeSet<String>>,
}

/// All volumes of an engine.
pub(crate) struct Volumes {
    dir: PathBuf,
    db: Db,
    index: Mutex<Index>,
}

impl Volumes {
    /// The volumes below `dir`, of which `db` keeps the records; and those whose records are broken.
    pub fn open(dir: PathBuf, db: Db) -> Result<(Self, Vec<String>)> {
        make_dir(&dir, 0o711)?;
        let (records, broken) = db.all::<VolumeRecord>(Kind::Volume)?;
        let records = records.into_iter().map(|r| (r.name.clone(), r)).collect();
        let volumes = Self {
            dir,
            db,
            index: Mutex::new(Index {
                records,
                claims: BTreeMap::new(),
            }),
        };
        Ok((volumes, broken))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the volume's files are.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("_data")
    }

    /// All, by name.
    pub fn all(&self) -> Vec<VolumeRecord> {
        self.index().records.values().cloned().collect()
    }

    /// The volume of this name; Docker's words where there is none.
    pub fn get(&self, name: &str) -> Result<VolumeRecord> {
        self.index()
            .records
            .get(name)
            .cloned()
            .ok_or_else(|| no_such_volume(name))
    }

    /// Makes a volume, or answers the one of that name; whether it is new. Blocks.
    pub fn create(&self, body: &VolumeCreateBody, anonymous: bool) -> Result<(VolumeRecord, bool)> {
        self.create_for(body, anonymous, None)
    }

    /// The same for `container`, which has no record yet: the volume is its own from here on, until
    /// [`keep_with`](Self::keep_with) or [`let_go`](Self::let_go). Blocks.
    pub fn claim(
        &self,
        body: &VolumeCreateBody,
        anonymous: bool,
        container: &str,
    ) -> Result<(VolumeRecord, bool)> {
        self.create_for(body, anonymous, Some(container))
    }

    fn create_for(
        &self,
        body: &VolumeCreateBody,
        anonymous: bool,
        container: Option<&str>,
    ) -> Result<(VolumeRecord, bool)> {
        if !matches!(body.driver.as_str(), "" | "local") {
            return Err(Error::not_found(format!(
                "error looking up volume plugin {0}: plugin \"{0}\" not found",
                body.driver
            )));
        }
        check_volume_name(&body.name)?;
        check_options(&body.driver_opts)?;
        let mut index = self.index();
        let Index { records, claims } = &mut *index;
        let mut claim = || {
            if let Some(container) = container {
                let of_volume = claims.entry(body.name.clone()).or_default();
                of_volume.insert(container.to_owned());
            }
        };
        if let Some(record) = records.get_mut(&body.name) {
            if !body.driver_opts.is_empty() && body.driver_opts != record.options {
                return Err(Error::conflict(format!(
                    "a volume of the name {} exists with other options",
                    body.name
                )));
            }
            if container.is_none() && record.pending {
                // A user has it from here on, whatever becomes of the container.
                let settled = VolumeRecord {
                    pending: false,
                    ..record.clone()
                };
                self.db.put(Kind::Volume, &body.name, &settled)?;
                *record = settled;
            }
            claim();
            return Ok((record.clone(), false));
        }
        let mut record = VolumeRecord {
            name: body.name.clone(),
            created: Timestamp::now(),
            labels: body.labels.clone(),
            options: body.driver_opts.clone(),
            used: false,
            pending: container.is_some(),
        };
        if anonymous {
            record.labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        let home = self.dir.join(&record.name);
        make_dir(&home, 0o711)?;
        berth_sys::fail_point("volume.create.directory");
        let made = make_dir(&self.data(&record.name), 0o755)
            .and_then(|()| self.db.put(Kind::Volume, &record.name, &record));
        if let Err(error) = made {
            // Nothing is left of a volume that could not be made.
            let _ = std::fs::remove_dir_all(&home);
            return Err(error);
        }
        berth_sys::fail_point("volume.create.recorded");
        records.insert(record.name.clone(), record.clone());
        claim();
        Ok((record, true))
    }

    /// Keeps the record of `container`, and in the same moment the volumes that were made for it.
    /// Blocks.
    pub fn keep_with(&self, container: &str, record: &impl Serialize) -> Result<()> {
        let mut index = self.index();
        let Index { records, claims } = &mut *index;
        let settled: Vec<VolumeRecord> = claims
            .iter()
            .filter(|(_, of_volume)| of_volume.contains(container))
            .filter_map(|(name, _)| records.get(name).filter(|v| v.pending))
            .map(|v| VolumeRecord {
                pending: false,
                ..v.clone()
            })
            .collect();
        let mut batch = Batch::default();
        for volume in &settled {
            batch.put(Kind::Volume, &volume.name, volume)?;
        }
        batch.put(Kind::Container, container, record)?;
        self.db.write(batch)?;
        for volume in settled {
            records.insert(volume.name.clone(), volume);
        }
        Ok(())
    }

    /// `container` has a record by now, or will not have one: then volumes that were made for it go.
    /// Blocks.
    pub fn let_go(&self, container: &str) -> Result<()> {
        let unwanted: Vec<String> = {
            let mut index = self.index();
            let Index { records, claims } = &mut *index;
            let mut unwanted = Vec::new();
            claims.retain(|name, of_volume| {
                let last = of_volume.remove(container) && of_volume.is_empty();
                if last && records.get(name).is_some_and(|v| v.pending) {
                    unwanted.push(name.clone());
                }
                !of_volume.is_empty()
            });
            unwanted
        };
        for name in unwanted {
            // Somebody may have claimed it since.
            match self.remove_if(&name, Vec::new, |v| v.pending) {
                Err(error) if error.kind() == crate::ErrorKind::Internal => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the changes of `batch`, by which a container goes, and in the same moment gives up those of
    /// its volumes that nobody else has: they are removed next, by the next engine if need be. Blocks.
    pub fn give_up_with(
        &self,
        mut batch: Batch,
        volumes: &[String],
        in_use: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut index = self.index();
        let Index { records, claims } = &mut *index;
        let mut given_up = Vec::new();
        for name in volumes {
            if let Some(volume) = records.get(name)
                && !claims.contains_key(name)
                && !in_use(name)
            {
                let volume = VolumeRecord {
                    pending: true,
                    ..volume.clone()
                };
                batch.put(Kind::Volume, name, &volume)?;
                given_up.push(volume);
            }
        }
        self.db.write(batch)?;
        for volume in given_up {
            records.insert(volume.name.clone(), volume);
        }
        Ok(())
    }

    /// Remembers that files are in it.
    pub fn set_used(&self, name: &str) -> Result<()> {
        let mut index = self.index();
        if let Some(record) = index.records.get_mut(name)
            && !record.used
        {
            record.used = true;
            self.db.put(Kind::Volume, name, &*record)?;
        }
        Ok(())
    }

    /// Removes a volume and its files, unless it is claimed or `users` names containers that have
    /// it: asked at a moment when nobody can claim it. Blocks.
    pub fn remove(&self, name: &str, users: impl FnOnce() -> Vec<String>) -> Result<()> {
        self.remove_if(name, users, |_| true)
    }

    fn remove_if(
        &self,
        name: &str,
        users: impl FnOnce() -> Vec<String>,
        still: impl FnOnce(&VolumeRecord) -> bool,
    ) -> Result<()> {
        let condemned = self.dir.join(format!("{CONDEMNED}{name}"));
        let failed = |e| Error::io(format_args!("cannot remove volume {name}"), e);
        {
            // Under one lock: nobody makes a volume of that name meanwhile.
            let mut index = self.index();
            let record = index.records.get(name);
            if !still(record.ok_or_else(|| no_such_volume(name))?) {
                return Ok(());
            }
            let mut users = users();
            users.extend(index.claims.get(name).into_iter().flatten().cloned());
            if !users.is_empty() {
                return Err(Error::conflict(format!(
                    "remove {name}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            delete(&condemned).map_err(failed)?;
            match std::fs::rename(self.dir.join(name), &condemned) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
            berth_sys::fail_point("volume.remove.renamed");
            self.db.remove(Kind::Volume, name)?;
            berth_sys::fail_point("volume.remove.recorded");
            index.records.remove(name);
        }
        delete(&condemned).map_err(failed)
    }

    /// Removes directories that no record tells of: what a process left that died between the two.
    pub fn sweep(&self, broken: &[String]) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let mut index = self.index();
        let records = &mut index.records;
        for entry in entries.flatten() {
            let mut name = entry.file_name().to_string_lossy().into_owned();
            if records.get(&name).is_some_and(|v| v.pending) {
                // Its container never came to be: nobody but the image wrote to it.
                let condemned = format!("{CONDEMNED}{name}");
                if let Err(error) = std::fs::rename(entry.path(), self.dir.join(&condemned)) {
                    tracing::warn!(volume = name, %error, "a volume that nobody has stays");
                    continue;
                }
                name = condemned;
            }
            if let Some(name) = name.strip_prefix(CONDEMNED) {
                // A removal that was broken off.
                if let Err(error) = self.db.remove(Kind::Volume, name) {
                    tracing::warn!(volume = name, %error, "a removal could not be finished");
                    continue;
                }
                records.remove(name);
                // Tried again at the next start.
                let _ = delete(&self.dir.join(format!("{CONDEMNED}{name}")));
                continue;
            }
            // Files of a volume whose record broke are a user's files.
            if records.contains_key(&name) || broken.contains(&name) {
                continue;
            }
            // One that holds something is not ours to judge.
            let _ = std::fs::remove_dir(entry.path().join("_data"));
            let _ = std::fs::remove_dir(entry.path());
        }
    }

    /// The volume in the API's words.
    pub fn describe(&self, record: &VolumeRecord, usage: Option<VolumeUsage>) -> Volume {
        let some = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
        Volume {
            created_at: record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: "local".to_owned(),
            labels: some(&record.labels),
            mountpoint: self.data(&record.name).display().to_string(),
            name: record.name.clone(),
            options: some(&record.options),
            scope: "local".to_owned(),
            status: None,
            usage_data: usage,
        }
    }
}

fn no_such_volume(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

/// Removes a directory with all that is in it; one that is not there is no error.
fn delete(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Options of Docker's local driver.
fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        if !matches!(name.as_str(), "type" | "o" | "device" | "size") {
            return Err(Error::invalid(format!("invalid option: {name:?}")));
        }
        if value.contains(['\0', '\n']) {
            return Err(Error::invalid(format!("invalid option: {name:?}")));
        }
    }
    if options.contains_key("size") {
        return Err(Error::invalid(
            "quota size requested but no quota support: size is not supported by this engine",
        ));
    }
    if options.contains_key("type") != options.contains_key("device") {
        let missing = if options.contains_key("type") {
            "device"
        } else {
            "type"
        };
        return Err(Error::invalid(format!(
            "missing required option: {missing:?}"
        )));
    }
    Ok(())
}

/// Makes a directory with this mode, whatever the umask; one that is there stays.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |e| Error::io(format_args!("cannot make {}", path.display()), e);
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_leave_nothing_wherever_they_break_off() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let (db, _) = Db::open(&dir.path().join("engine.db")).unwrap();
            let (volumes, broken) = Volumes::open(dir.path().join("volumes"), db).unwrap();
            volumes.sweep(&broken);
            volumes
        };
        let named = |name: &str| VolumeCreateBody {
            name: name.to_owned(),
            ..VolumeCreateBody::default()
        };
        let volumes = open();
        for name in ["gone", "torn", "stays"] {
            volumes.create(&named(name), false).unwrap();
            std::fs::write(volumes.data(name).join("file"), "x").unwrap();
        }
        volumes.remove("gone", Vec::new).unwrap();
        assert_eq!(
            volumes.remove("gone", Vec::new).unwrap_err().to_string(),
            "get gone: no such volume"
        );
        // As a process leaves it that dies in between.
        let home = |name: &str| dir.path().join("volumes").join(name);
        std::fs::rename(home("torn"), home(".removed-torn")).unwrap();
        drop(volumes);
        let volumes = open();
        let names: Vec<_> = volumes.all().into_iter().map(|v| v.name).collect();
        assert_eq!(names, ["stays"]);
        assert!(volumes.data("stays").join("file").exists());
        assert_eq!(
            std::fs::read_dir(dir.path().join("volumes"))
                .unwrap()
                .count(),
            1
        );
        // A new one of an old name is empty.
        volumes.create(&named("torn"), false).unwrap();
        assert!(!volumes.data("torn").join("file").exists());
    }

    #[test]
    fn a_claimed_volume_goes_only_with_its_container() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let (db, _) = Db::open(&dir.path().join("engine.db")).unwrap();
            let (volumes, broken) = Volumes::open(dir.path().join("volumes"), db).unwrap();
            volumes.sweep(&broken);
            volumes
        };
        let names = |v: &Volumes| v.all().into_iter().map(|v| v.name).collect::<Vec<_>>();
        let named = |name: &str| VolumeCreateBody {
            name: name.to_owned(),
            ..VolumeCreateBody::default()
        };
        let volumes = open();
        for name in ["lost", "asked", "kept", "mixed"] {
            volumes.claim(&named(name), false, "c1").unwrap();
            std::fs::write(volumes.data(name).join("file"), "x").unwrap();
        }
        assert_eq!(
            volumes.remove("kept", Vec::new).unwrap_err().to_string(),
            "remove kept: volume is in use - [c1]"
        );
        // A user has one of them as well, another container two.
        volumes.create(&named("asked"), false).unwrap();
        volumes.claim(&named("kept"), false, "c2").unwrap();
        volumes.claim(&named("mixed"), false, "c2").unwrap();
        volumes.keep_with("c2", &"its record").unwrap();
        volumes.let_go("c2").unwrap();
        volumes.let_go("c1").unwrap();
        assert_eq!(names(&volumes), ["asked", "kept", "mixed"]);
        let users = || vec!["c2".to_owned()];
        assert!(volumes.remove("kept", users).is_err());
        // An engine that ends before the container has a record.
        volumes.claim(&named("late"), true, "c3").unwrap();
        std::fs::write(volumes.data("late").join("file"), "x").unwrap();
        drop(volumes);
        let volumes = open();
        assert_eq!(names(&volumes), ["asked", "kept", "mixed"]);
        assert!(!dir.path().join("volumes/late").exists());
        let (db, _) = Db::open(&dir.path().join("engine.db")).unwrap();
        assert_eq!(db.all::<String>(Kind::Container).unwrap().0, ["its record"]);
    }
}
