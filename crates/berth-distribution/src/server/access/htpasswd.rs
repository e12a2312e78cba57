//! Users and their bcrypt hashes, as `htpasswd -B` writes them. The file is read again when it has
//! changed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use berth_store::hash::sha256;

use super::verified::Verified;
use crate::server::fault::{Code, Fault, Reply};

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// Looked up for names that nobody has, so that these take as long as others: a hash of nothing in
/// particular.
const NOBODY: &str = "$2y$10$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66";

pub(crate) struct Htpasswd {
    path: PathBuf,
    users: RwLock<HashMap<String, String>>,
    seen: Mutex<Option<SystemTime>>,
}

impl Htpasswd {
    pub(crate) fn open(path: &Path) -> Reply<Self> {
        let htpasswd = Self {
            path: path.to_owned(),
            users: RwLock::new(read(path)?),
            seen: Mutex::new(modified(path)),
        };
        Ok(htpasswd)
    }

    /// Reads the file again if it has changed; a broken one leaves what was.
    fn refresh(&self) {
        let now = modified(&self.path);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return;
            }
            *seen = now;
        }
        match read(&self.path) {
            Ok(users) => *self.users.write().unwrap_or_else(PoisonError::into_inner) = users,
            Err(e) => tracing::error!(error = %e, "the users stay as they were"),
        }
    }

    fn hash(&self, name: &str) -> Option<String> {
        self.refresh();
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(name).cloned()
    }

    /// Whether `password` is `name`'s.
    pub(crate) fn accepts(&self, name: &str, password: &str, verified: &Verified) -> Reply<bool> {
        let hash = self.hash(name);
        if let Some(hash) = &hash
            && verified.has(name, password, hash)
        {
            return Ok(true);
        }
        let tried = hash.as_deref().unwrap_or(NOBODY);
        let right = bcrypt::verify(password, tried).unwrap_or(false) && hash.is_some();
        if let Some(hash) = hash.filter(|_| right) {
            verified.remember(name, password, &hash);
        }
        Ok(right)
    }

    /// Something that changes when the user's password does.
    pub(crate) fn fingerprint(&self, name: &str) -> Option<String> {
        Some(sha256(self.hash(name)?.as_bytes()).short().to_owned())
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn read(path: &Path) -> Reply<HashMap<String, String>> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|f| f.take(FILE_MAX).read_to_string(&mut text))
        .map_err(|e| Fault::io(format_args!("cannot read {}", path.display()), e))?;
    parse(&text).map_err(|why| Fault::new(Code::Unknown, format!("{}: {why}", path.display())))
}

fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |why: &str| format!("line {}: {why}", number + 1);
        let (name, hash) = line
            .split_once(':')
            .ok_or_else(|| at("NAME:HASH is wanted"))?;
        if !["$2y$", "$2b$", "$2a$"].iter().any(|p| hash.starts_with(p)) {
            return Err(at("only bcrypt hashes are accepted: use htpasswd -B"));
        }
        users.insert(name.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_strictly_and_again_when_it_changes() {
        assert!(parse("a:{SHA}x").unwrap_err().contains("line 1"));
        assert!(parse("# c\n\nnothing").unwrap_err().contains("line 3"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let line = |password: &str| format!("user:{}\n", bcrypt::hash(password, 4).unwrap());
        fs::write(&path, line("one")).unwrap();
        let users = Htpasswd::open(&path).unwrap();
        let verified = Verified::default();
        let accepts = |name, password| users.accepts(name, password, &verified).unwrap();
        assert!(accepts("user", "one") && accepts("user", "one"));
        assert!(!accepts("user", "two") && !accepts("nobody", "one"));
        let before = users.fingerprint("user");
        fs::write(&path, line("two")).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        fs::File::open(&path).unwrap().set_modified(later).unwrap();
        assert!(accepts("user", "two") && !accepts("user", "one"));
        assert_ne!(users.fingerprint("user"), before);
    }
}
